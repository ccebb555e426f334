//! What `weir check` says of certificates by ACME: whom they come from, how a name is proved, what is stored and what would be
//! ordered. Nobody is asked.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::acme::plan::{Wanted, wanted};
use crate::config::Config;

/// Writes a section, if there is anything to have so.
pub(super) fn summary(config: &Config, now: SystemTime, out: &mut impl Write) -> io::Result<()> {
    let all = wanted(config);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\ncertificates by ACME")?;
    for (file, want) in &all {
        writeln!(
            out,
            "  {}: from {}, which comes to port {} for {}; for {}",
            want.domain,
            want.authority.name(),
            want.challenge.port(),
            want.challenge.name(),
            want.listeners.join(", ")
        )?;
        writeln!(out, "    {}: {}", file.display(), stored(want, now))?;
    }
    Ok(())
}

/// What is there, and what follows from it.
fn stored(want: &Wanted, now: SystemTime) -> String {
    let identity = match want.authority.load(&want.domain) {
        Ok(Some(identity)) => identity,
        Ok(None) => return "nothing yet, so one is ordered".into(),
        Err(fault) => return format!("{}, so another one is ordered", fault.what),
    };
    let until = httpdate::fmt_http_date(identity.expires);
    match identity.expires.duration_since(now) {
        Err(_) => format!("ended on {until}, so another one is ordered"),
        Ok(left) => {
            let lifetime = identity.expires.duration_since(identity.begins);
            let third = lifetime.unwrap_or_default() / 3;
            let next = if left <= third {
                "another one is ordered".into()
            } else {
                let date = httpdate::fmt_http_date(identity.expires - third);
                format!("renewed by {date}")
            };
            format!("valid until {until}, {next}")
        }
    }
}
