//! The connections that this side makes, and how far they are.

use std::sync::Arc;
use std::task::Poll;

use posthaste_core::transport::Endpoint;
use posthaste_core::{Error, ErrorKind};

use super::{Mark, Node, State};
use crate::lane::Lane;

/// A connection that this side makes, again and again.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) lane: Lane,
    pub(crate) endpoint: Endpoint,
    pub(crate) started: bool,
    pub(crate) state: DialState,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum DialState {
    /// Nothing is known yet.
    Connecting,
    /// It is there; what the peer wants is known once the mark is reached.
    Up { peer: u64, synced: Mark },
    /// It is not, and this is why.
    Down(Error),
}

impl Dial {
    pub(crate) fn new(lane: Lane, endpoint: Endpoint) -> Self {
        Self { lane, endpoint, started: false, state: DialState::Connecting }
    }
}

impl Node {
    /// Waits until the connections of a lane are there, as many as there are to be, and begins them
    /// if nobody has.
    ///
    /// # Errors
    /// `Unsupported` if the node has nothing on this lane, else why no connection is there.
    pub(crate) async fn ensure(self: &Arc<Self>, lane: Lane) -> Result<(), Error> {
        let mut has_dials = false;
        let mut to_start = Vec::new();
        self.with(|state| {
            for (at, dial) in state.dials.iter_mut().enumerate() {
                if dial.lane == lane {
                    has_dials = true;
                    if !std::mem::replace(&mut dial.started, true) {
                        to_start.push((at, dial.endpoint.clone()));
                    }
                }
            }
        });
        for (at, endpoint) in to_start {
            self.start_dial(at, lane, endpoint);
        }
        if !has_dials {
            return match self.bound.contains(&lane) {
                true => Ok(()),
                false => Err(self.nothing_on(lane)),
            };
        }
        self.until_late(|state| state.poll_dials(lane), |state| state.why_down(lane)).await
    }

    fn nothing_on(&self, lane: Lane) -> Error {
        let text = format!(
            "this ZeroMQ node has no endpoint for a {lane} socket; name one with the option {}",
            lane.option()
        );
        Error::new(ErrorKind::Unsupported, text)
    }
}

impl State {
    /// Ready when every connection of the lane is there, or one is refused.
    fn poll_dials(&self, lane: Lane) -> Poll<Result<(), Error>> {
        let mut all = true;
        for dial in self.dials.iter().filter(|dial| dial.lane == lane) {
            match &dial.state {
                DialState::Up { peer, synced } => {
                    all &= self.peers.get(peer).is_some_and(|peer| peer.has_reached(*synced));
                }
                // Trying again would change nothing.
                DialState::Down(error) if is_final(error) => {
                    return Poll::Ready(Err(error.clone()));
                }
                DialState::Connecting | DialState::Down(_) => all = false,
            }
        }
        if all { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Why not every connection of the lane is there.
    fn why_down(&mut self, lane: Lane) -> Error {
        let mut dials = self.dials.iter().filter(|dial| dial.lane == lane);
        let down = dials.find_map(|dial| match &dial.state {
            DialState::Up { .. } => None,
            DialState::Connecting => Some((&dial.endpoint, None)),
            DialState::Down(error) => Some((&dial.endpoint, Some(error))),
        });
        match down {
            Some((_, Some(error))) => error.clone(),
            Some((endpoint, None)) => {
                let text = format!("{endpoint} does not answer; start the peer, or look there");
                Error::new(ErrorKind::Disconnected, text)
            }
            None => Error::new(ErrorKind::TimedOut, "the peer does not answer; ask it why"),
        }
    }
}

/// Whether the peer will say the same the next time.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Protocol | ErrorKind::InvalidArgument)
}
