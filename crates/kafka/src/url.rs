//! Reads `kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...][?OPTION=VALUE[&OPTION=VALUE...]]`.

use posthaste_core::Error;

use crate::options::invalid;

/// A URL taken apart.
pub(crate) struct Url {
    /// As librdkafka wants them.
    pub(crate) servers: String,
    pub(crate) user: Option<(String, String)>,
    pub(crate) options: Vec<(String, String)>,
}

const FORM: &str = "kafka://HOST:PORT[,HOST:PORT...][?option=value&...]";

impl Url {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let Some(rest) = text.strip_prefix("kafka://") else {
            return Err(invalid(format!("a Kafka URL looks like {FORM}")));
        };
        let (servers, options) = match rest.split_once('?') {
            Some((servers, options)) => (servers, Some(options)),
            None => (rest, None),
        };
        let (user, servers) = match servers.rsplit_once('@') {
            Some((user, servers)) => (Some(user_of(user)?), servers),
            None => (None, servers),
        };
        // A slash behind the servers, as many write it, says nothing.
        let servers = servers.strip_suffix('/').unwrap_or(servers);
        servers.split(',').try_for_each(check_server)?;
        let options = options.map(options_of).transpose()?.unwrap_or_default();
        Ok(Self { servers: servers.to_owned(), user, options })
    }
}

fn user_of(text: &str) -> Result<(String, String), Error> {
    let (name, password) = text.split_once(':').ok_or_else(|| {
        invalid(
            "a Kafka URL with a user has a password too: kafka://USER:PASSWORD@HOST:PORT".into(),
        )
    })?;
    Ok((unescape(name)?, unescape(password)?))
}

fn check_server(text: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && text.chars().all(is_plain));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(1..) => Ok(()),
        _ => Err(invalid(format!("{text:?} is no HOST:PORT; a Kafka URL looks like {FORM}"))),
    }
}

fn options_of(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut options = Vec::<(String, String)>::new();
    for option in text.split('&') {
        let Some((name, value)) = option.split_once('=') else {
            return Err(invalid(format!(
                "{option:?} is no option=value; leave it out or give it one"
            )));
        };
        let (name, value) = (unescape(name)?, unescape(value)?);
        if options.iter().any(|(other, _)| *other == name) {
            return Err(invalid(format!("the option {name} is there twice; leave one out")));
        }
        options.push((name, value));
    }
    Ok(options)
}

/// Reads `%XX`.
fn unescape(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let byte = match byte {
            b'%' => digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()),
            byte => Some(byte),
        };
        bytes.push(byte.ok_or_else(|| invalid(format!("{text:?} has a % without two digits")))?);
    }
    String::from_utf8(bytes).map_err(|_| invalid(format!("{text:?} is not UTF-8 once it is read")))
}
