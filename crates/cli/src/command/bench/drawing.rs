//! The file that a plot goes into.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};

/// A file that can be written, which is known before anything is measured. What was in it stays
/// until there is something else to write; a new one goes again if that never comes.
#[derive(Debug)]
pub(super) struct Drawing {
    file: File,
    path: PathBuf,
    is_new: bool,
}

impl Drawing {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.write(true);
        let (opened, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.open(path), false)
            }
            opened => (opened, true),
        };
        let file = opened.map_err(|error| cannot_write(path, &error))?;
        Ok(Self { file, path: path.to_owned(), is_new })
    }

    pub(super) fn write(mut self, image: &str) -> Result<(), Failure> {
        self.is_new = false;
        // A device, such as a terminal, has no length.
        let is_file = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let emptied = if is_file { self.file.set_len(0) } else { Ok(()) };
        let written = emptied.and_then(|()| self.file.write_all(image.as_bytes()));
        written.map_err(|error| cannot_write(&self.path, &error))
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.is_new {
            // An empty file that stays is no reason to say more than what went wrong.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot write the plot to {}: {error}", path.display()))
}

/// Reads the name of a file for a plot.
pub(super) fn parse_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        _ if text.is_empty() => Err("name a file".to_owned()),
        Some(extension) if !extension.eq_ignore_ascii_case("svg") => {
            Err("plots are written as SVG: name a file that ends in .svg".to_owned())
        }
        _ => Ok(path),
    }
}
