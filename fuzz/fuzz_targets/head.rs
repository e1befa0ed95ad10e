//! Any bytes as the head of a message: what is accepted can be read, and goes out as it came in.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use posthaste_core::{Message, Parts, Topic};

fuzz_target!(|data: &[u8]| {
    let Some((attributes, head)) = data.split_first() else { return };
    let head = Bytes::copy_from_slice(head);
    let parts = Parts {
        head: head.clone(),
        payload: Bytes::new(),
        attributes: *attributes,
        correlation: 1,
        deadline: None,
    };
    let Ok(message) = Message::from_parts(parts) else { return };
    // A topic that was accepted is one by the rules for those that are made here.
    assert_eq!(Topic::new(message.topic().as_str()).ok(), Some(message.topic()));
    assert!(message.headers().count() <= 64);
    if let Some(reply_to) = message.reply_to() {
        assert!(Topic::new(reply_to.as_str()).is_ok());
        assert_eq!(message.reply("").map(|reply| reply.topic()), Some(reply_to));
    }
    let _ = (message.key(), message.id(), message.status(), message.priority());
    assert_eq!(message.into_parts().head, head);
});
