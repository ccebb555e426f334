//! Where the cache's second tier is, and what is asked of it.

use std::fmt;
use std::time::Duration;

use crate::cache::codec::Serializer;

/// A Redis that replicas share.
#[derive(Clone, PartialEq, Eq)]
pub struct Redis {
    /// Where it is.
    pub servers: RedisServers,
    /// Over TLS, with the system's roots or these (PEM).
    pub tls: Option<RedisTls>,
    /// For ACLs; `None` is the default user.
    pub username: Option<String>,
    /// Never printed.
    pub password: Option<String>,
    /// Database number; 0 in a cluster.
    pub database: i64,
    /// What every key begins with.
    pub prefix: String,
    /// What a look at it may add to a request's time.
    pub timeout: Duration,
    /// Bytes of the largest record.
    pub max_value: u64,
    /// The form of what is written.
    pub serializer: Serializer,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server: host (name, or IP literal without brackets) and port.
    One(String, u16),
    /// Sentinels, who know the master of this name.
    Sentinel {
        /// Host and port of each.
        sentinels: Vec<(String, u16)>,
        /// The master's name.
        master: String,
    },
    /// Some nodes of a cluster.
    Cluster(Vec<(String, u16)>),
}

/// TLS towards Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// A file with the authorities to trust, in PEM; `None` is the system's.
    pub ca: Option<std::path::PathBuf>,
}

impl fmt::Display for RedisServers {
    /// For people: `localhost:6379`, or who leads there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, servers: &[(String, u16)]| {
            for (i, (host, port)) in servers.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { ", " })?;
                write_server(f, host, *port)?;
            }
            Ok(())
        };
        match self {
            RedisServers::One(host, port) => write_server(f, host, *port),
            RedisServers::Sentinel { sentinels, master } => {
                write!(f, "{master} by the sentinels ")?;
                list(f, sentinels)
            }
            RedisServers::Cluster(nodes) => {
                f.write_str("the cluster of ")?;
                list(f, nodes)
            }
        }
    }
}

fn write_server(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("servers", &self.servers)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "not shown"))
            .field("database", &self.database)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("max_value", &self.max_value)
            .field("serializer", &self.serializer)
            .finish()
    }
}
