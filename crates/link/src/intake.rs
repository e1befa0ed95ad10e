//! Where what is read lies until it is used up: one buffer that small reads share, or blocks that
//! come back when the last message in them is gone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use posthaste_core::sync::Mutex;
use posthaste_core::task::lock;
use posthaste_wire::Input;

/// The buffer of a connection on which little happens.
const CHUNK_MIN: usize = 4 << 10;
/// The buffer of a busy connection: large enough that a system call is cheap per message, small
/// enough that what was read is still in the cache when it is looked at.
const CHUNK_MAX: usize = 128 << 10;
/// As much, where messages are large: one that is cut by the end of a block has to be copied.
const CHUNK_LARGE: usize = 512 << 10;
/// From this chunk on a read gets a block of its own.
const BLOCK_MIN: usize = 32 << 10;
/// What counts as a large message, by the bytes that its frame still needs.
const LARGE: usize = 16 << 10;
/// Blocks of a connection that are kept for the next read.
const BLOCKS: usize = 8;

/// What was read from a socket and is not used up.
pub(crate) struct Intake {
    buffer: Buffer,
    /// Unread bytes at the front of the buffer.
    filled: usize,
    /// How much is read at a time.
    chunk: usize,
    /// How much of the frame that has come in part has to come before it is of use.
    missing: usize,
    free: Arc<Blocks>,
}

enum Buffer {
    /// Initialised throughout. Messages are slices of it, so it is never written again, only used
    /// up; small messages that come one by one share it.
    Shared(BytesMut),
    /// A block that is filled by one read, and then all of it belongs to its messages.
    Block(Vec<u8>),
    /// What a block had behind its last whole frame.
    Rest(Bytes),
}

/// Blocks that nobody uses. Memory that is fresh from the system has to be mapped and cleared page
/// by page, which costs more than to read into it.
#[derive(Default)]
struct Blocks(Mutex<Vec<Vec<u8>>>);

/// A block that belongs to messages.
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Blocks>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = lock(&self.home.0);
        if free.len() < BLOCKS {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            buffer: Buffer::Shared(BytesMut::new()),
            filled: 0,
            chunk: CHUNK_MIN,
            missing: 0,
            free: Arc::new(Blocks::default()),
        }
    }

    /// Where the next read goes, when the frame that has come in part needs so much more.
    pub(crate) fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.missing == 0 {
            self.missing = wanted;
        }
        let wanted = self.missing;
        let enough = match &self.buffer {
            Buffer::Shared(buffer) => {
                buffer.len() - self.filled >= (self.chunk / 8).max(wanted.min(self.chunk))
            }
            Buffer::Block(block) => block.len() > self.filled,
            Buffer::Rest(_) => false,
        };
        if !enough {
            self.replace(wanted);
        }
        match &mut self.buffer {
            Buffer::Shared(buffer) => &mut buffer[self.filled..],
            Buffer::Block(block) => &mut block[self.filled..],
            Buffer::Rest(_) => &mut [],
        }
    }

    /// Takes a fresh buffer, with the partial frame at its beginning. It is not larger than what
    /// has really come suggests, whatever length the peer claims.
    fn replace(&mut self, wanted: usize) {
        let partial = match &self.buffer {
            Buffer::Shared(buffer) => &buffer[..self.filled],
            Buffer::Block(block) => &block[..self.filled],
            Buffer::Rest(rest) => rest,
        };
        let room = self.chunk.max(wanted.min(2 * partial.len()));
        self.buffer = if wanted >= LARGE || self.chunk >= BLOCK_MIN {
            let mut block = self.free.take(partial.len() + room);
            block[..partial.len()].copy_from_slice(partial);
            Buffer::Block(block)
        } else {
            let mut buffer = BytesMut::zeroed(partial.len() + room);
            buffer[..partial.len()].copy_from_slice(partial);
            Buffer::Shared(buffer)
        };
    }

    /// So many bytes have been read into that room. Who has read all there was room for gets more
    /// the next time, and who has not for long, less.
    pub(crate) fn has_read(&mut self, count: usize, room: usize) {
        self.filled += count;
        if count == room {
            let most = if self.missing >= LARGE { CHUNK_LARGE } else { CHUNK_MAX };
            self.chunk = (self.chunk * 2).min(most.max(self.chunk));
        } else if matches!(self.buffer, Buffer::Block(_)) && count < self.chunk / 4 {
            self.chunk /= 2;
        }
        self.missing = self.missing.saturating_sub(count);
    }

    /// Whether what has come is of no use before more of it has.
    pub(crate) fn is_short(&self) -> bool {
        self.missing > 0
    }

    /// Has `consume` take what it can off the front of what was read.
    pub(crate) fn feed(&mut self, consume: impl Consume) {
        match std::mem::replace(&mut self.buffer, Buffer::Rest(Bytes::new())) {
            Buffer::Shared(mut buffer) => {
                let mut unread = buffer.split_to(self.filled);
                consume.consume(&mut unread);
                self.filled = unread.len();
                // Both are parts of one buffer, next to each other: joining them copies nothing.
                unread.unsplit(buffer);
                self.buffer = Buffer::Shared(unread);
            }
            Buffer::Block(bytes) => {
                let lent = Lent { bytes, home: Arc::clone(&self.free) };
                let mut unread = Bytes::from_owner(lent);
                unread.truncate(self.filled);
                consume.consume(&mut unread);
                self.filled = unread.len();
                self.buffer = Buffer::Rest(unread);
            }
            rest @ Buffer::Rest(_) => self.buffer = rest,
        }
    }

    /// Forgets what was read and is not whole: a planted bug.
    pub(crate) fn forget_partial(&mut self) {
        if let Buffer::Shared(_) | Buffer::Block(_) = self.buffer {
            (self.filled, self.missing) = (0, 0);
        }
    }

    /// Gives back the memory that an idle connection has no use for.
    pub(crate) fn shrink(&mut self) {
        if self.filled == 0 {
            self.buffer = Buffer::Shared(BytesMut::new());
            self.chunk = CHUNK_MIN;
        }
        lock(&self.free.0).clear();
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

impl Blocks {
    /// A block of that length.
    fn take(&self, len: usize) -> Vec<u8> {
        let mut free = lock(&self.0);
        // One that is a little longer is as good, one that is much longer would be a waste.
        let fits = |block: &Vec<u8>| (len..=2 * len).contains(&block.len());
        match free.iter().position(fits) {
            Some(at) => free.swap_remove(at),
            None => {
                // Those of another length make way.
                if free.len() == BLOCKS {
                    free.pop();
                }
                vec![0; len.next_multiple_of(BLOCK_MIN)]
            }
        }
    }
}

/// Takes whole frames off the front of what was read, however it lies.
pub(crate) trait Consume {
    fn consume(self, unread: &mut impl Input);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes frames of the given length off the front, and keeps them.
    struct Frames<'a>(usize, &'a mut Vec<Bytes>);

    impl Consume for Frames<'_> {
        fn consume(self, unread: &mut impl Input) {
            while unread.as_ref().len() >= self.0 {
                self.1.push(unread.take_front(self.0));
            }
        }
    }

    /// Reads a stream of numbered bytes in steps of at most `step`, as frames of length `frame`.
    fn read(intake: &mut Intake, frame: usize, step: usize, total: usize) -> Vec<Bytes> {
        let (mut frames, mut come) = (Vec::new(), 0);
        while come < total {
            let partial = come - frames.len() * frame;
            let wanted = if partial == 0 { 0 } else { frame - partial };
            let into = intake.room(wanted);
            let room = into.len();
            let count = step.min(room).min(total - come);
            for (at, byte) in into[..count].iter_mut().enumerate() {
                *byte = number(come + at);
            }
            intake.has_read(count, room);
            come += count;
            if !intake.is_short() {
                intake.feed(Frames(frame, &mut frames));
            }
        }
        frames
    }

    fn number(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap_or(0)
    }

    fn is_the_stream(frames: &[Bytes]) -> bool {
        frames.iter().flatten().enumerate().all(|(at, byte)| *byte == number(at))
    }

    #[test]
    fn what_is_taken_stays_as_it_came_however_it_is_read() {
        for frame in [1, 7, 100, 4_096, 20_000, 70_000, 262_144] {
            for step in [1_000, 5_000, 65_536, usize::MAX] {
                let mut intake = Intake::new();
                let total = 40 * frame.max(20_000) / frame * frame;
                let frames = read(&mut intake, frame, step, total);
                assert_eq!(frames.len(), total / frame, "frames of {frame} in steps of {step}");
                assert!(is_the_stream(&frames), "frames of {frame} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_block_comes_back_when_its_last_message_is_gone_and_not_before() {
        let mut intake = Intake::new();
        let frames = read(&mut intake, 30_000, usize::MAX, 30_000 * 40);
        assert!(lock(&intake.free.0).is_empty(), "all that was read is in use");
        drop(frames);
        let free = lock(&intake.free.0).len();
        assert!((1..=BLOCKS).contains(&free), "{free} blocks");
        // A fresh look at the stream finds it whole, although it lies in the same memory.
        intake.clear();
        assert!(is_the_stream(&read(&mut intake, 30_000, usize::MAX, 30_000 * 40)));
    }

    #[test]
    fn a_connection_that_falls_idle_gives_its_memory_back() {
        let mut intake = Intake::new();
        drop(read(&mut intake, 30_000, usize::MAX, 30_000 * 40));
        intake.shrink();
        assert!(lock(&intake.free.0).is_empty());
        assert_eq!(intake.chunk, CHUNK_MIN);
    }

    #[test]
    fn small_messages_that_come_one_by_one_share_a_buffer() {
        let mut intake = Intake::new();
        let frames = read(&mut intake, 50, 50, 50 * 60);
        let near = |pair: &[Bytes]| pair[0].as_ptr().wrapping_add(50) == pair[1].as_ptr();
        assert!(frames.windows(2).filter(|pair| near(pair)).count() > 50);
    }
}
