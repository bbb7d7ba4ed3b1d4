//! Text from the traced world, made harmless.
//!
//! A traced process chooses its comm, its host names and its arguments, so none of them may reach a terminal as they are: an
//! escape sequence could rewrite the screen, a line feed could forge a row.

use std::fmt::{self, Write};

/// Shows bytes as text: printable characters as they are, everything else, and the backslash, as `\xNN`, `\n` and so on.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    ' '..='~' => f.write_char(c)?,
                    _ if is_harmless(c) => f.write_char(c)?,
                    _ => write!(f, "{}", c.escape_default())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Shows a line of source likewise, but a backslash as it is: sources are full of them, and nobody reads this back.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            ' '..='~' => f.write_char(c),
            _ if is_harmless(c) => f.write_char(c),
            _ => write!(f, "{}", c.escape_default()),
        })
    }
}

/// Shows text within HTML, in attributes too: what has a meaning there is written by its name, and what may do harm as in
/// [`Escaped`].
#[derive(Clone, Copy, Debug)]
pub struct Html<'a>(pub &'a str);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                ' '..='~' => f.write_char(c)?,
                _ if is_harmless(c) => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_default())?,
            }
        }
        Ok(())
    }
}

/// Letters and digits of any script do no harm; what is left (controls, bidirectional marks, separators, private use) may.
pub(crate) fn is_harmless(c: char) -> bool {
    c.is_alphanumeric()
}

/// A comm as the kernel holds it: 16 bytes that end at the first NUL.
pub fn comm(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_write_to_the_terminal_through_its_name() {
        assert_eq!(Escaped(b"\x1b[2Jevil\n").to_string(), "\\u{1b}[2Jevil\\n");
        assert_eq!(Escaped(b"a\xff\xfeb").to_string(), "a\\xff\\xfeb");
        assert_eq!(Escaped("\u{202e}gnp".as_bytes()).to_string(), "\\u{202e}gnp");
        assert_eq!(Escaped(b"back\\slash").to_string(), "back\\\\slash");
        assert_eq!(Quoted("\t\x1bprintk(\"a\\n\")").to_string(), "\\t\\u{1b}printk(\"a\\n\")");
    }

    #[test]
    fn no_name_is_markup() {
        let evil = "</script><img src=x onerror='a(\"b\")'>&\u{202e}\n";
        let harmless = "&lt;/script&gt;&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;\\u{202e}\\n";
        assert_eq!(Html(evil).to_string(), harmless);
        assert_eq!(Html("größe r1 += 2").to_string(), "größe r1 += 2");
    }

    #[test]
    fn readable_names_stay_readable() {
        assert_eq!(Escaped("kworker/u8:1 größe 日本".as_bytes()).to_string(), "kworker/u8:1 größe 日本");
        assert_eq!(comm(b"curl\0\0junk\0"), b"curl");
        assert_eq!(comm(b"exactly16bytes!!"), b"exactly16bytes!!");
    }
}
