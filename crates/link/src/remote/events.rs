//! What a remote makes of the things that its session tells.

use std::time::Instant;

use posthaste_core::{Error, ErrorKind};
use posthaste_wire::{Code, Event, Link, Outcome};

use super::state::{End, Phase, State, Wakeups};
use super::table::RoleState;
use crate::codes::error_of;
use crate::control::Opened;
use crate::pump::Pump;

impl State {
    /// Hands what was read to the session. A message for a mailbox goes there straight away; all
    /// else it tells in its events.
    pub(crate) fn feed(&mut self, pump: &mut Pump, now: Instant, wakers: &mut Wakeups) {
        let acks = self.planted.acks_on_arrival;
        let Self { session, table, .. } = self;
        pump.feed(session, now, |link, _, transfer| {
            // What is to be told to the server at once has to wait until the session is free.
            let receiver = table.by_link(link).and_then(|(_, entry)| match &mut entry.role {
                RoleState::Receiver(receiver) if !entry.orphaned && !acks => Some(receiver),
                _ => None,
            });
            let Some(receiver) = receiver.filter(|receiver| receiver.takes_all()) else {
                return Some(transfer);
            };
            receiver.took(transfer, now);
            wakers.add(receiver.take_waker());
            None
        });
    }

    /// Takes what the session tells; whoever has to be woken is added to `wakers`.
    pub(crate) fn drain_events(&mut self, now: Instant, wakers: &mut Wakeups) {
        while let Some(event) = self.session.poll_event() {
            self.on_event(event, now, wakers);
        }
    }

    fn on_event(&mut self, event: Event, now: Instant, wakers: &mut Wakeups) {
        match event {
            Event::Transfer { link, seq, transfer } => {
                let acks = self.planted.acks_on_arrival;
                let Some((_, session, entry)) = self.by_link(link) else {
                    return;
                };
                let orphaned = entry.orphaned;
                if let RoleState::Receiver(receiver) = &mut entry.role {
                    if acks {
                        let last = seq + u64::from(transfer.count) - 1;
                        session.settle(link, seq, last, Outcome::Ack, None, "");
                    }
                    receiver.arrived(transfer, orphaned, now, session, link);
                    if orphaned && receiver.is_done() {
                        session.close(link);
                    }
                    wakers.add(receiver.take_waker());
                }
            }
            Event::Credit { link } | Event::Writable { link } => {
                self.on_room(link, now, wakers);
            }
            Event::Confirm { link, upto, matched, level, nodes } => {
                if let Some(sender) = self.sender_by_link(link) {
                    sender.confirmed(upto, matched, level, nodes);
                    let resending = sender.is_resending();
                    wakers.add(sender.outcome_came());
                    wakers.add(self.drainer.take());
                    if resending {
                        self.on_room(link, now, wakers);
                    }
                }
            }
            Event::Returned { link, seq, code, reason, .. } => {
                if let Some(sender) = self.sender_by_link(link) {
                    sender.returned(seq, &error_of(code, &reason));
                }
            }
            Event::Opened { link, info } => self.on_opened(link, &info, now, wakers),
            other => self.on_control(other, wakers),
        }
    }

    fn on_control(&mut self, event: Event, wakers: &mut Wakeups) {
        match event {
            Event::Established { peer } => {
                tracing::debug!(software = %peer.software.escape_debug(), "connected");
                self.phase = Phase::Up;
                self.linger = peer.linger;
                self.arrive(peer.session, wakers);
                self.reopen(wakers);
                self.wake_waiters(wakers);
            }
            Event::Refused { link, code, reason } => {
                self.on_closed(link, Some(error_of(code, &reason)), wakers);
            }
            Event::Closed { link, code, reason } => {
                let error = (code != Code::Ok).then(|| error_of(code, &reason));
                self.on_closed(link, error, wakers);
            }
            Event::Cancelled { link, number } => {
                if let Some(receiver) = self.receiver_by_link(link) {
                    wakers.add(receiver.cancelled(number));
                }
            }
            Event::Offset { link, offset } => {
                if let Some(receiver) = self.receiver_by_link(link) {
                    receiver.next_is_at(offset);
                }
            }
            Event::Stopped { link } => {
                if let Some(receiver) = self.receiver_by_link(link) {
                    receiver.stopped();
                    wakers.add(receiver.take_waker());
                    wakers.add(self.drainer.take());
                }
            }
            Event::Synced { link, token, code, reason } => {
                if let Some(receiver) = self.receiver_by_link(link) {
                    receiver.synced(token, (code != Code::Ok).then(|| error_of(code, &reason)));
                    wakers.add(receiver.take_waker());
                    wakers.add(self.drainer.take());
                }
            }
            Event::Result { mut id, code, body } => {
                if self.planted.answers_any_request {
                    id = self.calls.keys().next().copied().unwrap_or(id);
                }
                if let Some(cell) = self.calls.remove(&id) {
                    let answer = match code {
                        Code::Ok => Ok(body),
                        code => Err(error_of(code, &String::from_utf8_lossy(&body))),
                    };
                    wakers.answer(cell, answer);
                }
            }
            Event::Notice { code, body } => {
                let text = String::from_utf8_lossy(&body).into_owned();
                tracing::info!(%code, text = %text.escape_debug(), "the server says");
            }
            Event::Ended { code, reason, by_peer } => {
                let established = matches!(self.phase, Phase::Up);
                if established {
                    // From now on whoever wants something waits for the next connection.
                    self.phase = Phase::Connecting;
                }
                let text = reason.escape_debug();
                tracing::debug!(%code, reason = %text, by_peer, "connection ended");
                self.end = Some(End { code, reason, established });
            }
            // What only servers are told.
            _ => {}
        }
    }

    fn on_opened(&mut self, link: Link, info: &[u8], now: Instant, wakers: &mut Wakeups) {
        let Some((key, session, entry)) = self.by_link(link) else {
            return;
        };
        let opened = Opened::decode(info).and_then(|opened| match &entry.role {
            RoleState::Receiver(receiver) if opened.carried > receiver.may_be_told() => {
                let text = "the server tells more deliveries again than there are";
                Err(Error::new(ErrorKind::Protocol, text))
            }
            _ => Ok(opened),
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                entry.ended = Some(error);
                entry.wake_all(wakers);
                session.close(link);
                return;
            }
        };
        let resumed = entry.resumable && opened.resumed;
        if std::mem::take(&mut entry.resumable) {
            // What a lost session means has to be known before the new one begins.
            entry.resumable = resumed;
            self.reopened(key, resumed, wakers);
        }
        let turns_around = self.planted.resends_in_reverse;
        let Some((_, session, entry)) = self.by_link(link) else {
            return;
        };
        entry.open = true;
        entry.resumable = false;
        entry.life = opened.life;
        wakers.add(entry.opener.take());
        if turns_around && let RoleState::Sender(sender) = &mut entry.role {
            sender.turn_around();
        }
        let orphaned = entry.orphaned;
        match &mut entry.role {
            RoleState::Sender(sender) => sender.opened(opened.window),
            RoleState::Receiver(receiver) => {
                let (messages, bytes) = match resumed {
                    true => receiver.resumed(opened.carried),
                    false => receiver.opened(opened),
                };
                session.grant(link, messages, bytes);
                let stopping = receiver.is_stopping();
                if (orphaned || stopping && !resumed) && receiver.is_done() {
                    session.close(link);
                } else if stopping {
                    session.stop(link);
                }
                wakers.add(receiver.take_waker());
            }
        }
        self.on_room(link, now, wakers);
    }

    /// There is room on a link: what has to be sent again goes first.
    fn on_room(&mut self, link: Link, now: Instant, wakers: &mut Wakeups) {
        let Some((_, session, entry)) = self.by_link(link) else {
            return;
        };
        let RoleState::Sender(sender) = &mut entry.role else {
            return;
        };
        if entry.open && sender.is_resending() {
            sender.resend(session, link, now);
        }
        if entry.open && !sender.is_resending() {
            wakers.add(sender.room_came());
            if entry.orphaned {
                session.close(link);
            }
        }
    }

    /// A link was refused, or closed by either side.
    fn on_closed(&mut self, link: Link, error: Option<Error>, wakers: &mut Wakeups) {
        let Some((key, _, entry)) = self.by_link(link) else {
            return;
        };
        entry.wire = None;
        entry.open = false;
        entry.ended.get_or_insert_with(|| match error {
            Some(error) => error,
            None => Error::closed("the link"),
        });
        self.lose(key, wakers);
    }
}
