//! The handshake of one connection.

use bytes::Bytes;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::BoxConnection;
use posthaste_core::{Error, ErrorKind};

use crate::codec::{Event, Properties, Session};
use crate::lane::Lane;
use crate::node::{Known, Node};

/// The property by which Posthaste peers know each other.
const POSTHASTE: &str = "X-Posthaste";
/// How much is read at a time.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// How a connection came about.
#[derive(Debug, Clone)]
pub(crate) enum Whence {
    /// This side made it, for this lane.
    Dialled { lane: Lane, at: usize },
    /// It was accepted by a listener for these lanes.
    Accepted(Vec<Lane>),
}

/// What a node tells of itself on a lane.
fn introduction(node: &Node, lane: Lane) -> Properties {
    let mut properties = Properties::new(lane.socket_type()).with(POSTHASTE, Bytes::from("1"));
    properties.identity = node.options.identity.clone();
    properties
}

/// Greets the peer; once that is done, messages may be sent.
///
/// # Errors
/// `TimedOut` for a peer that takes too long, and why it is none otherwise.
pub(crate) async fn greet(
    node: &Node,
    connection: &mut BoxConnection,
    whence: &Whence,
) -> Result<(Session, Known), Error> {
    let within = node.options.handshake;
    let deadline = node.runtime.now() + within;
    let greeting = shake_hands(node, connection, whence);
    match timeout_at(&*node.runtime, deadline, greeting).await {
        Some(greeted) => greeted,
        None => {
            let text = format!("the peer did not finish its handshake within {within:?}");
            Err(Error::new(ErrorKind::TimedOut, text))
        }
    }
}

async fn shake_hands(
    node: &Node,
    connection: &mut BoxConnection,
    whence: &Whence,
) -> Result<(Session, Known), Error> {
    let security = node.options.security.clone();
    let mut session = match whence {
        Whence::Dialled { lane, .. } => Session::connecting(security, introduction(node, *lane)),
        Whence::Accepted(lanes) => match lanes[..] {
            [lane] => Session::connecting(security, introduction(node, lane)),
            _ => Session::accepting(security),
        },
    };
    let mut known = None;
    let mut buffer = vec![0; 4 << 10];
    loop {
        let event = match session.poll_event() {
            Ok(event) => event,
            Err(error) => {
                // What is said to the peer of the reason is all that is left to do.
                let last = session.take_output();
                let _gone = connection.write_all(&last).await;
                let _gone = connection.close().await;
                return Err(error);
            }
        };
        match event {
            Some(Event::Peer(properties)) => {
                let lane = choose_lane(whence, &properties);
                match lane {
                    Ok(lane) => {
                        known = Some(Known {
                            lane,
                            posthaste: properties.other(POSTHASTE).is_some(),
                            has_commands: session.peer_has_commands(),
                            dial: match whence {
                                Whence::Dialled { at, .. } => Some(*at),
                                Whence::Accepted(_) => None,
                            },
                        });
                        if session.awaits_introduction() {
                            session.introduce(&introduction(node, lane))?;
                        }
                    }
                    Err(error) => {
                        session.refuse(&error.to_string());
                        let last = session.take_output();
                        let _gone = connection.write_all(&last).await;
                        let _gone = connection.close().await;
                        return Err(error);
                    }
                }
            }
            Some(Event::Established) => {
                let output = session.take_output();
                connection.write_all(&output).await.map_err(lost)?;
                connection.flush().await.map_err(lost)?;
                return known.map(|known| (session, known)).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, "a handshake ended without its peer")
                });
            }
            // Nothing else comes before that.
            Some(_) => {}
            None => {
                let output = session.take_output();
                connection.write_all(&output).await.map_err(lost)?;
                connection.flush().await.map_err(lost)?;
                match connection.read(&mut buffer).await.map_err(lost)? {
                    0 => return Err(hung_up(whence)),
                    count => session.receive(&buffer[..count]),
                }
            }
        }
    }
}

fn choose_lane(whence: &Whence, peer: &Properties) -> Result<Lane, Error> {
    match whence {
        // The session has seen to it that the two go together.
        Whence::Dialled { lane, .. } => Ok(*lane),
        Whence::Accepted(lanes) => {
            let lane = Lane::facing(peer.socket_type).filter(|lane| lanes.contains(lane));
            lane.ok_or_else(|| {
                let text = format!("no socket here talks with a {} socket", peer.socket_type);
                Error::new(ErrorKind::Refused, text)
            })
        }
    }
}

/// The error of a connection that broke.
pub(crate) fn lost(error: std::io::Error) -> Error {
    let text = format!("the connection to a ZeroMQ peer broke: {error}");
    Error::new(ErrorKind::Disconnected, text).caused_by(error)
}

/// The error of a peer that closed the connection in its handshake. It is what libzmq does when
/// the sockets do not go together, without a word.
fn hung_up(whence: &Whence) -> Error {
    let text = match whence {
        Whence::Dialled { lane, .. } => format!(
            "the peer hung up in the handshake; see whether its socket is one that talks with \
             {lane}, and whether both sides use the same security mechanism"
        ),
        Whence::Accepted(_) => String::from("the peer hung up in the handshake"),
    };
    Error::new(ErrorKind::Disconnected, text)
}
