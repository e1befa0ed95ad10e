//! Names: which subject, stream and consumer a topic or a queue is.

use posthaste_core::{Error, ErrorKind, Topic};

/// What inboxes' topics begin with; the subject of an answer has its correlation behind that.
pub(crate) const INBOX: &str = "_ph.inbox.";
const QUEUE: &str = "_ph.queue.";
/// The consumer that all receivers of a queue share.
pub(crate) const CONSUMER: &str = "posthaste";
/// What stream names are cut to by file systems, less what is put in front.
const STREAM_BYTES_MAX: usize = 200;

/// The subject that a topic or a pattern is.
pub(crate) fn subject(topic: &str) -> Result<String, Error> {
    if topic.starts_with('$') {
        let text = format!("NATS keeps subjects that begin with $ for itself: rename {topic:?}");
        return Err(Error::new(ErrorKind::InvalidTopic, text));
    }
    Ok(topic.to_owned())
}

/// The subject of an answer, or of anything else for an inbox.
pub(crate) fn inbox_subject(topic: &Topic, correlation: u64) -> String {
    format!("{topic}.{correlation}")
}

/// The address for answers and the correlation that a reply subject names: ours has both, anybody
/// else's is an address alone.
pub(crate) fn reply_address(subject: &str) -> Option<(Topic, u64)> {
    if let Some((topic, correlation)) = subject.rsplit_once('.').filter(|_| is_inbox(subject))
        && let Ok(correlation) = correlation.parse()
    {
        return Some((Topic::new(topic).ok()?, correlation));
    }
    Some((Topic::new(subject).ok()?, 0))
}

pub(crate) fn is_inbox(topic: &str) -> bool {
    topic.starts_with(INBOX)
}

/// The subject of what goes into a queue.
pub(crate) fn queue_subject(queue: &Topic) -> String {
    format!("{QUEUE}{queue}")
}

/// The queue whose messages have this subject.
pub(crate) fn queue_of(subject: &str) -> Option<Topic> {
    Topic::new(subject.strip_prefix(QUEUE)?).ok()
}

/// The stream of a queue.
pub(crate) fn stream(queue: &Topic) -> Result<String, Error> {
    Ok(format!("PH_{}", token(queue)?))
}

/// The stream that holds how many deliveries of a queue's messages do not count.
pub(crate) fn uncounted_stream(queue: &Topic) -> Result<String, Error> {
    Ok(format!("PHU_{}", token(queue)?))
}

/// The subject of how many deliveries of one message do not count.
pub(crate) fn uncounted_subject(stream: &str, sequence: u64) -> String {
    format!("_ph.uncounted.{stream}.{sequence}")
}

/// A name as one word of what stream names may have: letters, digits and dashes stand for
/// themselves, a line for the dot, and `=XX` for any other byte.
fn token(queue: &Topic) -> Result<String, Error> {
    let mut token = String::new();
    for byte in queue.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => token.push(char::from(byte)),
            b'.' => token.push('_'),
            byte => token.push_str(&format!("={byte:02X}")),
        }
    }
    if token.len() > STREAM_BYTES_MAX {
        let text =
            format!("the name of the queue {queue} is too long for a stream of NATS; shorten it");
        return Err(Error::new(ErrorKind::InvalidTopic, text));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_has_a_subject_and_a_stream() {
        for name in ["jobs", "jobs.eu", "jobs_eu", "größe.1=2", "a*b.>c"] {
            let queue = Topic::new(name).unwrap();
            let stream = stream(&queue).unwrap();
            assert!(stream.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)));
            assert_eq!(queue_of(&queue_subject(&queue)), Some(queue));
        }
    }

    #[test]
    fn names_that_differ_have_streams_that_differ() {
        let of = |name: &str| stream(&Topic::new(name).unwrap()).unwrap();
        assert_ne!(of("a.b"), of("a_b"));
        assert_ne!(of("a=2Eb"), of("a.b"));
        assert_ne!(of("a=2Eb"), of("a_2Eb"));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(subject("$SYS.x").unwrap_err().kind(), ErrorKind::InvalidTopic);
        let long = Topic::new("x".repeat(300)).unwrap();
        assert_eq!(stream(&long).unwrap_err().kind(), ErrorKind::InvalidTopic);
    }

    #[test]
    fn reply_subjects_carry_the_correlation() {
        let inbox = Topic::new("_ph.inbox.7f").unwrap();
        assert_eq!(reply_address(&inbox_subject(&inbox, 9)), Some((inbox, 9)));
        let foreign = Topic::new("_INBOX.abc.5").unwrap();
        assert_eq!(reply_address("_INBOX.abc.5"), Some((foreign, 0)));
    }
}
