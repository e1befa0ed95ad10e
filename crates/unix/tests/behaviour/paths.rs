//! Paths of Unix sockets: what may be one, and what the errors say.

use std::io::ErrorKind;

use posthaste_core::transport::{Endpoint, Transport};
use posthaste_unix::Unix;

use crate::support::{endpoint, folder, on_every_runtime, pair, refusal};

#[test]
fn a_path_of_107_bytes_works_and_one_of_108_is_refused() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let room = 107 - folder.path().as_os_str().len() - 1;
        let longest = endpoint(folder.path().join("s".repeat(room)));
        let mut listener = unix.bind(&longest).await.unwrap();
        pair(&unix, &mut *listener).await;
        let too_long = endpoint(folder.path().join("s".repeat(room + 1)));
        for error in [refusal(unix.bind(&too_long).await), refusal(unix.connect(&too_long).await)] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("108 bytes long") && text.contains("107 at most"), "{text}");
        }
    });
}

#[test]
fn what_is_no_path_is_refused_with_the_reason() {
    let cases = [
        (Endpoint::new("unix", ""), "it is empty"),
        (Endpoint::new("unix", "@name"), "abstract names are not supported"),
        (Endpoint::new("unix", "\0name"), "abstract names are not supported"),
        (Endpoint::new("unix", "/run/a\0b"), "a NUL byte"),
        (Endpoint::new("tcp", "127.0.0.1:7411"), "its scheme is not unix"),
    ];
    on_every_runtime(async |runtime| {
        let unix = Unix::new(runtime);
        for (at, why) in &cases {
            for error in [refusal(unix.bind(at).await), refusal(unix.connect(at).await)] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{at}");
                assert!(error.to_string().contains(why), "{at}: {error}");
            }
        }
    });
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    on_every_runtime(async |runtime| {
        let (folder, unix) = (folder(), Unix::new(runtime));
        let path = folder.path().join("missing/s");
        let error = refusal(unix.bind(&endpoint(&path)).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let named = format!("cannot listen on {}: ", path.display());
        assert!(error.to_string().starts_with(&named), "{error}");
    });
}
