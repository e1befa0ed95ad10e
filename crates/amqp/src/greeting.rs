//! What a server says of itself in its first frame, `connection.start`: which version it is.

/// The longest first frame that is looked at.
const GREETING_BYTES_MAX: usize = 16 << 10;
/// Type, channel and length in front of a frame's content.
const FRAME_PREFIX: usize = 7;
/// Class, method and the protocol's version in front of the server's properties.
const START_PREFIX: usize = 6;

/// The first bytes that came from a server.
#[derive(Debug, Default)]
pub(crate) struct Greeting(Vec<u8>);

impl Greeting {
    /// Takes what came; whether that is all that is wanted.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> bool {
        let room = GREETING_BYTES_MAX.saturating_sub(self.0.len());
        self.0.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        bytes.is_empty() || self.0.len() >= GREETING_BYTES_MAX || self.frame().is_some()
    }

    /// The version among the server's properties, if it says so.
    pub(crate) fn version(&self) -> Option<String> {
        let mut properties = split_long(&mut self.frame()?.get(START_PREFIX..)?)?;
        while !properties.is_empty() {
            let (length, rest) = properties.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            let (kind, rest) = rest.split_first()?;
            properties = rest;
            let value = match kind {
                b'S' | b'F' | b'A' | b'x' => split_long(&mut properties)?,
                b't' | b'b' | b'B' => split(&mut properties, 1)?,
                b's' | b'u' | b'U' => split(&mut properties, 2)?,
                b'I' | b'i' | b'f' => split(&mut properties, 4)?,
                b'l' | b'L' | b'd' | b'T' => split(&mut properties, 8)?,
                b'V' => &[],
                _ => return None,
            };
            if name == b"version" && *kind == b'S' {
                return Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        None
    }

    /// The content of the first frame, once it is whole.
    fn frame(&self) -> Option<&[u8]> {
        let length = self.0.get(3..FRAME_PREFIX)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        self.0.get(FRAME_PREFIX..FRAME_PREFIX.checked_add(length)?)
    }
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(value)
}

fn split_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = split(rest, 4)?.try_into().ok()?;
    split(rest, usize::try_from(u32::from_be_bytes(length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `connection.start` with a table of capabilities in front of the version.
    fn start() -> Vec<u8> {
        let mut table = Vec::from(*b"\x0ccapabilitiesF\x00\x00\x00\x05\x02okt\x01");
        table.extend(b"\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8");
        let mut content = vec![0, 10, 0, 10, 0, 9];
        content.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
        content.extend(table);
        let mut frame = vec![1, 0, 0];
        frame.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        frame.extend(content);
        frame.push(0xCE);
        frame
    }

    #[test]
    fn the_version_is_found_however_the_bytes_come() {
        for size in [1, 7, 1_000] {
            let mut greeting = Greeting::default();
            let done = start().chunks(size).any(|bytes| greeting.add(bytes));
            assert!(done);
            assert_eq!(greeting.version().as_deref(), Some("3.10.8"), "{size} bytes at a time");
        }
    }

    #[test]
    fn what_makes_no_sense_names_no_version() {
        let good = start();
        for cut in 0..good.len() {
            let mut frame = good[..cut].to_vec();
            // Lengths that point behind the end.
            frame.iter_mut().skip(8).step_by(5).for_each(|byte| *byte = 0xFF);
            let mut greeting = Greeting::default();
            greeting.add(&frame);
            greeting.version();
        }
        let mut greeting = Greeting::default();
        assert!(greeting.add(&vec![1; GREETING_BYTES_MAX + 1]), "no more is kept");
        assert_eq!(greeting.version(), None);
    }
}
