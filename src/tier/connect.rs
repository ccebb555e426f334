//! Reaching Redis: names, sockets and TLS over the seam, the greeting, who is the master. A cluster's client opens its own
//! sockets, so there is none where the environment is not the real one.
//!
//! Absent: when to try, and what to do without (mod).

use std::time::Duration;

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, IntoConnectionInfo as _, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisResult, Value,
};
use tokio_rustls::TlsConnector;

use super::stream::Wire;
use crate::config::model::{self, RedisServers, RedisTls};
use crate::env::{Clock, Env, Net, Task};
use crate::tls::client::{Client, Trust, explain, system_authorities};
use crate::tls::pem;
use crate::wire::SocketOf;

/// Why there is no connection. No text here holds a password.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name did not resolve, or no address of it answered.
    #[error("{0}:{1}: {2}")]
    Unreachable(String, u16, std::io::Error),
    /// The certificates cannot be read, or the handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server refused what we said, or said nothing of use.
    #[error("{0}")]
    Refused(#[from] RedisError),
    /// No sentinel that was asked knows a master of this name.
    #[error("no sentinel knows where {0:?} is: {1}")]
    NoMaster(String, String),
    /// The server that was named is not a master, as in the middle of a failover.
    #[error("{0}:{1} is not a master at the moment")]
    NotMaster(String, u16),
    /// It took too long.
    #[error("no answer in time")]
    Silent,
    /// Clusters are reached through their client's own sockets.
    #[error("a cluster cannot be reached from a simulated world")]
    Simulated,
}

/// A connection that many share. Dropping the last of its clones closes it.
#[derive(Clone)]
pub enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Sends one command. An error that the server answers with is returned as an error.
    pub async fn ask(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Link::One(conn) => conn.send_packed_command(cmd).await,
            Link::Cluster(conn) => conn.req_packed_command(cmd).await,
        }
        .and_then(Value::extract_error)
    }

    /// Some commands, in order; each has its own answer, unless the connection fails.
    pub async fn ask_all(&mut self, cmds: Vec<Cmd>) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Link::One(conn) => {
                let mut pipe = Pipeline::with_capacity(cmds.len());
                let count = cmds.len();
                for cmd in cmds {
                    pipe.add_command(cmd);
                }
                let values = conn.send_packed_commands(&pipe, 0, count).await?;
                Ok(values.into_iter().map(Value::extract_error).collect())
            }
            // They may belong to different nodes.
            Link::Cluster(conn) => {
                let mut answers = Vec::with_capacity(cmds.len());
                for cmd in &cmds {
                    let answer = conn.req_packed_command(cmd).await;
                    if answer
                        .as_ref()
                        .is_err_and(RedisError::is_unrecoverable_error)
                    {
                        return answer.map(|_| answers);
                    }
                    answers.push(answer.and_then(Value::extract_error));
                }
                Ok(answers)
            }
        }
    }
}

/// The task that moves a connection's bytes; its drop ends it, and so the connection.
#[derive(Debug)]
pub struct Driver(Option<Task>);

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// How long a connection may take until it is ready.
pub fn patience(model: &model::Redis) -> Duration {
    (model.timeout * 5).max(Duration::from_secs(1))
}

/// Connects, greets, and asks for a sign of life within `redis.timeout`. `lost` runs when the connection ends by itself.
///
/// # Errors
/// Why not.
pub async fn connect<E: Env>(
    env: &E,
    model: &model::Redis,
    lost: impl FnOnce() + Send + 'static,
) -> Result<(Link, Driver), Failure> {
    let connecting = async {
        match &model.servers {
            RedisServers::One(host, port) => one(env, model, host, *port, true, lost).await,
            RedisServers::Sentinel { sentinels, master } => {
                let (host, port) = find_master(env, model, sentinels, master).await?;
                let (mut link, driver) = one(env, model, &host, port, true, lost).await?;
                match link.ask(&::redis::cmd("ROLE")).await? {
                    Value::Array(said) if text(said.first()) == Some("master") => {
                        Ok((link, driver))
                    }
                    _ => Err(Failure::NotMaster(host, port)),
                }
            }
            RedisServers::Cluster(nodes) => cluster::<E>(model, nodes).await,
        }
    };
    let clock = env.clock();
    let connected = clock.timeout(patience(model), connecting).await;
    let (mut link, driver) = connected.unwrap_or(Err(Failure::Silent))?;
    let alive = clock
        .timeout(model.timeout, link.ask(&::redis::cmd("PING")))
        .await;
    alive.ok_or(Failure::Silent)??;
    Ok((link, driver))
}

/// A string in an answer.
pub fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

async fn one<E: Env>(
    env: &E,
    model: &model::Redis,
    host: &str,
    port: u16,
    as_user: bool,
    lost: impl FnOnce() + Send + 'static,
) -> Result<(Link, Driver), Failure> {
    let stream = dial(env, host, port)
        .await
        .map_err(|e| Failure::Unreachable(host.to_owned(), port, e))?;
    // Another replica's config may allow larger records than ours, so twice as much still counts as a record.
    let limit = model.max_value * 2 + (64 << 10);
    let wire = match &model.tls {
        None => Wire::plain(stream, limit),
        Some(tls) => Wire::tls(secure(env, stream, tls, host).await?, limit),
    };
    // No noise in the greeting, and RESP2, so that servers of every age understand it.
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    if as_user {
        info = info.set_db(model.database);
        if let Some(username) = &model.username {
            info = info.set_username(username);
        }
        if let Some(password) = &model.password {
            info = info.set_password(password);
        }
    }
    // The client's own timeouts are off, because the callers time every question by the clock of the seam.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None);
    let (conn, driver) = MultiplexedConnection::new_with_config(&info, wire, config).await?;
    let task = env.spawn("redis", async move {
        driver.await;
        lost();
    });
    Ok((Link::One(conn), Driver(Some(task))))
}

async fn dial<E: Env>(env: &E, host: &str, port: u16) -> std::io::Result<SocketOf<E>> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    let addresses = env.net().resolve(host, port).await?;
    // A silent address may not use up the time of those behind it.
    let share = Duration::from_secs(1) / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    for addr in addresses {
        last = match env.clock().timeout(share, env.net().connect(addr)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => error,
            None => std::io::ErrorKind::TimedOut.into(),
        };
    }
    Err(last)
}

/// The certificates that a server's is held against, read anew for each connection: a renewed file needs no restart.
async fn secure<E: Env>(
    env: &E,
    stream: SocketOf<E>,
    tls: &RedisTls,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<SocketOf<E>>, Failure> {
    let roots = match &tls.ca {
        Some(path) => pem::authorities(path).map_err(|fault| Failure::Tls(fault.to_string()))?,
        None => system_authorities().map_err(Failure::Tls)?,
    };
    let client = Client::new(Trust::These(roots), None, None);
    let client = client.map_err(|e| Failure::Tls(e.to_string()))?;
    let name = client
        .name_of(host)
        .ok_or_else(|| Failure::Tls(format!("no certificate can be for {host:?}")))?;
    let env = env.clone();
    let config = client.for_server(&[], move || env.clock().wall());
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|e| Failure::Tls(explain(&e)))
}

/// Asks the sentinels in turn where the master is. They are asked without a password, which is the servers'.
async fn find_master<E: Env>(
    env: &E,
    model: &model::Redis,
    sentinels: &[(String, u16)],
    master: &str,
) -> Result<(String, u16), Failure> {
    let share = patience(model) / u32::try_from(sentinels.len() + 1).unwrap_or(1);
    let mut last = String::from("none was named");
    for (host, port) in sentinels {
        let asking = async {
            let (mut link, _driver) = one(env, model, host, *port, false, || {}).await?;
            let mut cmd = ::redis::cmd("SENTINEL");
            cmd.arg("get-master-addr-by-name").arg(master);
            Ok::<_, Failure>(link.ask(&cmd).await?)
        };
        last = match env.clock().timeout(share, asking).await {
            Some(Ok(Value::Array(said))) => {
                let port = text(said.get(1)).and_then(|p| p.parse().ok());
                if let (Some(host), Some(port)) = (text(said.first()), port) {
                    return Ok((host.to_owned(), port));
                }
                "it gave no address".into()
            }
            Some(Ok(_)) => "it does not know that name".into(),
            Some(Err(error)) => error.to_string(),
            None => Failure::Silent.to_string(),
        };
    }
    Err(Failure::NoMaster(master.to_owned(), last))
}

async fn cluster<E: Env>(
    model: &model::Redis,
    nodes: &[(String, u16)],
) -> Result<(Link, Driver), Failure> {
    if !E::Net::REAL {
        return Err(Failure::Simulated);
    }
    let mut initial = Vec::new();
    for (host, port) in nodes {
        initial.push(ConnectionAddr::Tcp(host.clone(), *port).into_connection_info()?);
    }
    let mut builder = ClusterClientBuilder::new(initial)
        .use_protocol(ProtocolVersion::RESP2)
        .retries(1)
        .connection_timeout(Duration::from_secs(1))
        // Longer than the longest command, which waits for purges.
        .response_timeout(super::log::BLOCK * 3);
    if let Some(username) = &model.username {
        builder = builder.username(username);
    }
    if let Some(password) = &model.password {
        builder = builder.password(password);
    }
    let conn = builder.build()?.get_async_connection().await?;
    Ok((Link::Cluster(conn), Driver(None)))
}
