//! What a URL says of a node.

use posthaste_core::transport::Endpoint;
use posthaste_core::{Error, ErrorKind};

use crate::codec::{Credentials, Security};
use crate::lane::Lane;
use crate::options::ZmtpOptions;

/// Reads `zmtp+tcp://[USER:PASSWORD@]HOST[:PORT][?OPTIONS]` or `zmtp+unix:/PATH[?OPTIONS]`.
///
/// # Errors
/// `InvalidArgument`, with what is wrong.
pub(crate) fn parse(url: &str) -> Result<ZmtpOptions, Error> {
    let Some((scheme, rest)) = url.strip_prefix("zmtp+").and_then(|url| url.split_once(':')) else {
        return Err(wrong(format!("{url:?} is no ZeroMQ URL")));
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = ZmtpOptions::new();
    let (credentials, place) = match place.rsplit_once('@') {
        Some((credentials, place)) if scheme == "tcp" => (Some(credentials), place),
        _ => (None, place),
    };
    let default = Place { scheme, text: place };
    default.check(url)?;
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let binds = pairs().any(|pair| pair == "bind");
    let mut named = Vec::new();
    for pair in pairs() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match Lane::ALL.into_iter().find(|lane| lane.option() == name) {
            Some(lane) => {
                named.push(lane);
                options = default.lane(options, lane, value, binds)?;
            }
            None => options = option(options, name, value)?,
        }
    }
    options = default.others(options, &named, binds);
    if let Some(credentials) = credentials {
        options = options.security(security(credentials, binds)?);
    }
    if options.connects.is_empty() && options.binds.is_empty() {
        return Err(wrong(format!("{url:?} names no port to connect to or to bind")));
    }
    Ok(options)
}

fn option(options: ZmtpOptions, name: &str, value: &str) -> Result<ZmtpOptions, Error> {
    match name {
        "bind" if value.is_empty() => Ok(options),
        "identity" => Ok(options.identity(value.to_owned())),
        "hwm" => match value.parse() {
            Ok(messages) => Ok(options.high_water(messages)),
            Err(_) => Err(wrong(format!("hwm is a number of messages, not {value:?}"))),
        },
        _ => Err(wrong(format!(
            "a ZeroMQ URL has the options bind, pub, sub, push, pull, req, rep, identity and hwm, \
             not {name:?}"
        ))),
    }
}

/// A client says who it is, and a server takes nobody else.
fn security(text: &str, binds: bool) -> Result<Security, Error> {
    let Some((username, password)) = text.split_once(':') else {
        return Err(wrong("the credentials of a ZeroMQ URL are USER:PASSWORD"));
    };
    let known = Credentials::new(unescape(username)?, unescape(password)?);
    Ok(match binds {
        false => Security::plain(known),
        true => Security::plain_server(move |offered| offered.matches(&known)),
    })
}

fn unescape(text: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                _ => return Err(wrong("a % in the credentials stands before two hex digits")),
            },
            byte => byte,
        });
    }
    Ok(bytes)
}

/// Where the URL itself points to.
struct Place<'a> {
    scheme: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn check(&self, url: &str) -> Result<(), Error> {
        match self.scheme {
            "tcp" | "unix" if !self.text.is_empty() => Ok(()),
            _ => Err(wrong(format!("{url:?} is no ZeroMQ URL"))),
        }
    }

    /// Whether something can be connected to or bound there.
    fn is_whole(&self) -> bool {
        let bracketed = self.text.rsplit_once(']').map_or(self.text, |(_, port)| port);
        self.scheme != "tcp" || bracketed.contains(':')
    }

    fn host(&self) -> &str {
        match self.text.rsplit_once(':') {
            Some((host, _)) if self.is_whole() => host,
            _ => self.text,
        }
    }

    /// Adds what an option says of a lane: a port, a host and port, or a path; behind `@` if this
    /// side binds and behind `>` if it connects.
    fn lane(
        &self,
        options: ZmtpOptions,
        lane: Lane,
        value: &str,
        binds: bool,
    ) -> Result<ZmtpOptions, Error> {
        let (binds, at) = match (value.strip_prefix('@'), value.strip_prefix('>')) {
            (Some(at), _) => (true, at),
            (_, Some(at)) => (false, at),
            _ => (binds, value),
        };
        let is_port = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
        let address = match self.scheme {
            "tcp" if is_port => format!("{}:{at}", self.host()),
            "tcp" if at.contains(':') => at.to_owned(),
            "unix" if !at.is_empty() => at.to_owned(),
            _ => {
                let name = lane.option();
                let text = format!("{name} is a port, HOST:PORT or a path, not {value:?}");
                return Err(wrong(text));
            }
        };
        let endpoint = Endpoint::new(self.scheme, address);
        Ok(match binds {
            true => options.bind_lane(lane, endpoint),
            false => options.connect_lane(lane, endpoint),
        })
    }

    /// Every lane that is not named goes to the place itself, if it is one.
    fn others(&self, options: ZmtpOptions, named: &[Lane], binds: bool) -> ZmtpOptions {
        if !self.is_whole() {
            return options;
        }
        let endpoint = Endpoint::new(self.scheme, self.text);
        let lanes: Vec<Lane> = Lane::ALL.into_iter().filter(|lane| !named.contains(lane)).collect();
        match binds {
            true => options.bind_lanes(lanes, endpoint),
            false => lanes
                .into_iter()
                .fold(options, |options, lane| options.connect_lane(lane, endpoint.clone())),
        }
    }
}

fn wrong(text: impl Into<String>) -> Error {
    let text = format!(
        "{}; write one like zmtp+tcp://127.0.0.1:5555 or zmtp+unix:/run/app.sock?bind",
        text.into()
    );
    Error::new(ErrorKind::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connects(url: &str) -> Vec<String> {
        let options = parse(url).unwrap();
        options.connects.iter().map(|(lane, at)| format!("{} {at}", lane.option())).collect()
    }

    fn binds(url: &str) -> Vec<String> {
        let options = parse(url).unwrap();
        let names =
            |lanes: &[Lane]| lanes.iter().map(|lane| lane.option()).collect::<Vec<_>>().join("+");
        options.binds.iter().map(|(lanes, at)| format!("{} {at}", names(lanes))).collect()
    }

    #[test]
    fn one_place_serves_every_lane() {
        assert_eq!(connects("zmtp+tcp://h:1").len(), 6);
        assert_eq!(binds("zmtp+tcp://h:1?bind"), ["pub+sub+push+pull+req+rep tcp://h:1"]);
        assert_eq!(binds("zmtp+unix:/run/x?bind"), ["pub+sub+push+pull+req+rep unix:/run/x"]);
    }

    #[test]
    fn lanes_have_places_of_their_own() {
        let url = "zmtp+tcp://h?sub=5556&push=@5557&req=other:9";
        assert_eq!(connects(url), ["sub tcp://h:5556", "req tcp://other:9"]);
        assert_eq!(binds(url), ["push tcp://h:5557"]);
        assert_eq!(binds("zmtp+tcp://[::1]?pull=1&bind"), ["pull tcp://[::1]:1"]);
        assert_eq!(connects("zmtp+tcp://h:1?pull=2&push=3&req=4&rep=5&pub=6")[5], "sub tcp://h:1");
    }

    #[test]
    fn credentials_make_it_plain() {
        let client = parse("zmtp+tcp://me:a%3Ab@h:1").unwrap();
        assert_eq!((client.security.mechanism(), client.security.is_server()), ("PLAIN", false));
        assert!(parse("zmtp+tcp://me:a@h:1?bind").unwrap().security.is_server());
    }

    #[test]
    fn what_is_no_url_says_so() {
        for url in [
            "tcp://h:1",
            "zmtp+tcp://",
            "zmtp+tcp://h",
            "zmtp+tcp://h:1?colour=red",
            "zmtp+tcp://h:1?sub=here",
            "zmtp+tcp://h:1?hwm=many",
            "zmtp+tcp://me@h:1",
            "zmtp+udp://h:1",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        }
    }
}
