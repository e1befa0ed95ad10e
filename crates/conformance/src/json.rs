//! Just enough JSON to write a report: objects of texts, numbers, objects and lists of objects.

use std::fmt::{Display, Write};

/// An object that is being written.
#[derive(Debug, Default)]
pub(crate) struct Json {
    text: String,
    has_members: bool,
}

impl Json {
    /// The text of the object whose members `write` writes.
    pub(crate) fn object(write: impl FnOnce(&mut Self)) -> String {
        let mut json = Self::default();
        write(&mut json);
        format!("{{{}}}", json.text)
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.member(name, quoted(value));
    }

    pub(crate) fn number(&mut self, name: &str, value: usize) {
        self.member(name, value);
    }

    pub(crate) fn null(&mut self, name: &str) {
        self.member(name, "null");
    }

    pub(crate) fn nested(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.member(name, Self::object(write));
    }

    /// A list of objects, one of each item.
    pub(crate) fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&T, &mut Self)) {
        let objects = items.iter().map(|item| Self::object(|json| write(item, json)));
        let objects: Vec<_> = objects.collect();
        self.member(name, format_args!("[{}]", objects.join(",")));
    }

    fn member(&mut self, name: &str, value: impl Display) {
        let comma = if std::mem::replace(&mut self.has_members, true) { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(self.text, "{comma}{}:{value}", quoted(name));
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn whatever_a_text_has_in_it_is_one_string() {
        let json = Json::object(|json| {
            json.text("a \"b\"", "c\\d\n\u{7f}é");
            json.null("n");
        });
        assert_eq!(json, r#"{"a \"b\"":"c\\d\u000a\u007fé","n":null}"#);
    }
}
