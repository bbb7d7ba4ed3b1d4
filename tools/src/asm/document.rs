//! A whole program as a text: functions in the grammar of `bpf!`, and directives for what else a program is.
//!
//! A directive has a line of its own, which begins with a dot:
//!
//! ```text
//! .license "GPL"                                       what it may call; GPL where nothing is said
//! .map counts hash key 4 value 8 max 1024 flags 0      a map, and in hexadecimal what an array holds: data 68690a00
//! .section "kprobe/tcp_connect"                        a program of several, or what they share
//! .attach kprobe tcp_connect                           where it is attached
//! .type xdp 37                                         or only its type, and the attach type it is verified for
//! .func count                                          a function, until the next directive
//! .endian big                                          for machines of the other byte order
//! .bytes 01 02                                         what is at the end and is no instruction
//! ```

use std::collections::HashSet;

use bpfkit_asm::{Asm, Code, ParseError};
use bpfkit_loader::{Attach, MapSpec, MapType};

use super::place;
use crate::escape;

/// A map with what it holds at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDef {
    /// What it is like.
    pub spec: MapSpec,
    /// The value of an array's only element; nothing leaves it zero.
    pub data: Vec<u8>,
}

/// Functions that are one after the other.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its name; nothing where a text has but one.
    pub name: String,
    /// Where its program belongs, where that is said.
    pub attach: Option<Attach>,
    /// Its functions, each finished, or what keeps it from that; a program's first is where the kernel enters.
    pub funcs: Vec<(String, Result<Code, bpfkit_asm::Error>)>,
    /// What comes after them, and is no instruction.
    pub tail: Vec<u8>,
}

/// A text that was read.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Whether it is for a machine whose bytes are the other way round.
    pub big_endian: Option<bool>,
    /// Its licence, where that is said.
    pub license: Option<String>,
    /// Its maps.
    pub maps: Vec<MapDef>,
    /// Its sections: those that have something.
    pub sections: Vec<Section>,
}

/// A directive, or the statements between two.
enum Part<'a> {
    Directive(Directive<'a>),
    Body { text: &'a str, line: u32 },
}

#[derive(Clone, Copy)]
struct Directive<'a> {
    text: &'a str,
    line: u32,
}

/// The names that a text has given.
#[derive(Default)]
struct Names {
    maps: HashSet<String>,
    sections: HashSet<String>,
    funcs: HashSet<String>,
}

impl Document {
    /// Reads a text. `file` is what messages call it; `name` is that of functions that have none.
    ///
    /// # Errors
    /// Every mistake with its line.
    pub fn parse(text: &str, file: &str, name: &str) -> Result<Self, ParseError> {
        let mut document = Self::default();
        let mut mistakes: Option<ParseError> = None;
        let mut keep = |found: ParseError| match &mut mistakes {
            Some(mistakes) => mistakes.append(found),
            None => mistakes = Some(found),
        };
        let mut section = Section::default();
        let mut func: Option<String> = None;
        let mut names = Names::default();
        for part in parts(text) {
            match part {
                Part::Body { text, line } => match Asm::parse_part(text, file, line) {
                    Ok(code) if code.is_empty() => {}
                    Ok(code) => {
                        let unnamed = || if section.name.is_empty() { name.to_owned() } else { word(&section.name) };
                        let name = func.take().unwrap_or_else(unnamed);
                        section.funcs.push((name, code.finish()));
                    }
                    Err(error) => keep(error),
                },
                Part::Directive(line) => {
                    if let Err((column, message)) = document.directive(line.text, &mut section, &mut func, &mut names) {
                        keep(ParseError::new(file, (line.line, column), line.text, message, None));
                    }
                }
            }
        }
        if let Err((column, message)) = bodiless(&mut func) {
            let last = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
            let line = text.lines().next_back().unwrap_or_default();
            keep(ParseError::new(file, (last, column), line, message, None));
        }
        document.close(section);
        mistakes.map_or(Ok(document), Err)
    }

    fn close(&mut self, mut section: Section) {
        // There may be many, with a function each.
        section.funcs.shrink_to_fit();
        if !section.funcs.is_empty() || !section.tail.is_empty() {
            self.sections.push(section);
        }
    }

    /// Takes in a directive; a mistake has its column.
    fn directive(
        &mut self,
        line: &str,
        section: &mut Section,
        func: &mut Option<String>,
        names: &mut Names,
    ) -> Result<(), (u32, String)> {
        let words = words(line)?;
        let Some(((column, name), rest)) = words.split_first() else { return Ok(()) };
        let here = |message: String| (*column, message);
        let rest: Vec<String> = rest.iter().map(|(_, word)| word.clone()).collect();
        let one = |what: &str| match rest.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(here(format!("expected {what} after `{name}`, and nothing else"))),
        };
        match name.as_str() {
            ".license" => self.license = Some(one("a licence")?),
            ".endian" => {
                self.big_endian = Some(match one("`little` or `big`")?.as_str() {
                    "little" => false,
                    "big" => true,
                    other => return Err(here(format!("`{other}` is neither `little` nor `big`"))),
                });
            }
            ".map" => {
                let map = map(&rest).map_err(here)?;
                if !names.maps.insert(map.spec.name.clone()) {
                    return Err(here(format!("map `{}` is there twice", map.spec.name)));
                }
                self.maps.push(map);
            }
            ".section" => {
                let name = one("a name")?;
                if name.is_empty() || !names.sections.insert(name.clone()) {
                    return Err(here(format!("section `{name}` is there twice")));
                }
                bodiless(func).map_err(|(_, message)| here(message))?;
                self.close(std::mem::replace(section, Section { name, ..Section::default() }));
            }
            ".attach" => section.attach = Some(place::attach(&rest).map_err(here)?),
            ".type" => section.attach = Some(place::trial(&rest).map_err(here)?),
            ".func" => {
                let name = one("a name")?;
                if !bpfkit_asm::is_name(&name) {
                    return Err(here(format!("`{name}` is no name for a function")));
                }
                bodiless(func).map_err(|(_, message)| here(message))?;
                if !names.funcs.insert(name.clone()) {
                    return Err(here(format!("function `{name}` is there twice")));
                }
                *func = Some(name);
            }
            ".bytes" => section.tail.extend(bytes(&rest.concat()).map_err(here)?),
            _ => {
                let near = bpfkit_asm::suggest(name, DIRECTIVES);
                let help = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                return Err(here(format!("there is no directive `{name}`{help}")));
            }
        }
        Ok(())
    }
}

const DIRECTIVES: [&str; 8] = [".license", ".endian", ".map", ".section", ".attach", ".type", ".func", ".bytes"];

/// Refuses a function that has ended without an instruction.
fn bodiless(func: &mut Option<String>) -> Result<(), (u32, String)> {
    func.take().map_or(Ok(()), |name| Err((1, format!("function `{name}` before this has no instruction"))))
}

/// Cuts a text into directives and what is between them.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut lines = text.split_inclusive('\n');
    let (mut start, mut first, mut at, mut number) = (0, 1, 0, 0_u32);
    let mut waiting = None;
    let mut is_done = false;
    std::iter::from_fn(move || {
        if waiting.is_some() {
            return waiting.take();
        }
        for line in lines.by_ref() {
            number = number.saturating_add(1);
            let begin = at;
            at += line.len();
            if line.trim_start().starts_with('.') {
                let body = Part::Body { text: &text[start..begin], line: first };
                (start, first) = (at, number.saturating_add(1));
                waiting = Some(Part::Directive(Directive { text: line.trim_end(), line: number }));
                return Some(body);
            }
        }
        let rest = Part::Body { text: &text[start..], line: first };
        (!std::mem::replace(&mut is_done, true)).then_some(rest)
    })
}

/// The words of a line with their columns, without its comment. What stands in quotes is one word, with `\u{NN}`, `\n`, `\"`, `\\`.
fn words(line: &str) -> Result<Vec<(u32, String)>, (u32, String)> {
    let mut words: Vec<(u32, String)> = Vec::new();
    let mut chars = line.chars().zip(1_u32..).peekable();
    while let Some(&(c, column)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        if c == '"' {
            chars.next();
            loop {
                match chars.next().map(|(c, _)| c) {
                    Some('"') => break,
                    Some('\\') => match chars.next().map(|(c, _)| c) {
                        Some(c @ ('"' | '\\')) => word.push(c),
                        Some('n') => word.push('\n'),
                        Some('u') => word.push(unicode(&mut chars).ok_or((column, WRONG_ESCAPE.to_owned()))?),
                        _ => return Err((column, WRONG_ESCAPE.to_owned())),
                    },
                    Some(c) => word.push(c),
                    None => return Err((column, "a quote that does not end".to_owned())),
                }
            }
        } else {
            while let Some(&(c, _)) = chars.peek().filter(|(c, _)| !c.is_whitespace()) {
                word.push(c);
                chars.next();
            }
            if word.starts_with("//") {
                break;
            }
        }
        words.push((column, word));
    }
    Ok(words)
}

const WRONG_ESCAPE: &str = "expected `\\\"`, `\\\\`, `\\n` or `\\u{NN}` after a backslash";

/// The character of `{1b}`.
fn unicode(chars: &mut impl Iterator<Item = (char, u32)>) -> Option<char> {
    chars.next().filter(|&(c, _)| c == '{')?;
    let digits: String = chars.map(|(c, _)| c).take_while(|&c| c != '}').collect();
    u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)
}

/// `NAME TYPE key N value N max N flags N data HEX`
fn map(words: &[String]) -> Result<MapDef, String> {
    let [name, kind, pairs @ ..] = words else { return Err("expected the name and the type of a map".to_owned()) };
    if !bpfkit_asm::is_name(name) {
        return Err(format!("`{name}` is no name for a map"));
    }
    let Some(kind) = MapType::from_name(kind) else {
        let near = bpfkit_asm::suggest(kind, MapType::ALL.iter().map(|&(_, name, _)| name));
        let help = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(format!("there is no type of map `{kind}`{help}"));
    };
    let mut map = MapDef { spec: MapSpec { kind, ..MapSpec::hash(name, 0, 0, 0) }, data: Vec::new() };
    for pair in pairs.chunks(2) {
        let [key, value] = pair else { return Err(format!("expected something after `{}`", pair.concat())) };
        if key == "data" {
            map.data = bytes(value)?;
            continue;
        }
        let number = u32::try_from(place::number(value)?).map_err(|_| format!("`{value}` is too large"))?;
        match key.as_str() {
            "key" => map.spec.key_size = number,
            "value" => map.spec.value_size = number,
            "max" => map.spec.max_entries = number,
            "flags" => map.spec.flags = number,
            _ => return Err(format!("expected key, value, max, flags or data, found `{key}`")),
        }
    }
    Ok(map)
}

/// Bytes in hexadecimal.
///
/// # Errors
/// What is none.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(c))
        .collect::<Result<_, _>>()
        .map_err(|c| format!("`{}` is no hexadecimal digit", c.escape_default()))?;
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks(2) {
        let [upper, lower] = pair else { return Err("half a byte at the end".to_owned()) };
        bytes.push(upper << 4 | lower);
    }
    Ok(bytes)
}

/// A name of the grammar that looks like this one.
pub fn word(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = plain.trim_start_matches('_');
    if plain.starts_with(|c: char| c.is_ascii_alphabetic()) { plain.to_owned() } else { format!("f{plain}") }
}

/// A word of a directive, in quotes. It may come from an object file, so that what a terminal would obey is written by its number.
pub fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            _ if escape::is_harmless(c) => quoted.push(c),
            _ => quoted.extend(c.escape_unicode()),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
.license \"GPL v2\"       // with a space
.map counts hash key 4 value 0x8 max 1024
.map .rodata array key 4 value 3 max 1 flags 0x80 data 68690a
.section \"kprobe/tcp_connect\"
.attach kprobe tcp_connect
.func enter
    r1 = map[counts];
    call leave;
    exit;
.func leave
l0: r0 = 0;
    exit;
.bytes 01 0203
.section \".text\"
    r0 = 1; exit;
";

    #[test]
    fn what_is_quoted_is_read_as_it_was_and_does_no_harm_to_a_terminal() {
        for text in ["", "a b", "\\u{1b} \" \\", "\u{1b}[2J\n\r\t\u{7f}", "é\u{202e}\u{fffd}\u{10ffff}"] {
            let quoted = quoted(text);
            assert_eq!(words(&quoted).map(|words| words[0].1.clone()), Ok(text.to_owned()), "{quoted}");
            assert!(quoted.chars().all(|c| matches!(c, ' '..='~' | 'é')), "{quoted:?}");
        }
        for wrong in [r#""\u1b""#, r#""\u{}""#, r#""\u{110000}""#, r#""\u{1b""#, r#""\x1b""#] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_whole_program_is_read() {
        let document = Document::parse(TEXT, "f.bpf", "main").unwrap();
        assert_eq!(document.license.as_deref(), Some("GPL v2"));
        let maps: Vec<_> = document.maps.iter().map(|map| (map.spec.name.as_str(), map.spec.value_size)).collect();
        assert_eq!(maps, [("counts", 8), (".rodata", 3)]);
        assert_eq!(document.maps[1].data, b"hi\n");
        let [probe, text] = document.sections.as_slice() else { panic!("{:?}", document.sections) };
        assert_eq!(probe.attach, Some(Attach::Kprobe { symbol: "tcp_connect".to_owned(), offset: 0 }));
        let names: Vec<&str> = probe.funcs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, &probe.tail[..]), (vec!["enter", "leave"], &[1, 2, 3][..]));
        assert_eq!((text.name.as_str(), text.funcs[0].0.as_str()), (".text", "text"));
        let code = probe.funcs[1].1.clone().unwrap();
        assert_eq!(code.sources().get(0).map(|source| source.line), Some(11));
    }

    #[test]
    fn statements_alone_are_a_function_of_the_files_name() {
        let document = Document::parse("r0 = 0; exit;", "f.bpf", "f").unwrap();
        assert_eq!(document.sections[0].funcs[0].0, "f");
        assert!(Document::parse("// nothing\n", "f", "f").unwrap().sections.is_empty());
    }

    #[test]
    fn a_text_of_many_names_is_read_in_a_time_that_grows_with_its_length() {
        let text = |count| (0..count).map(|n| format!(".map m{n} array\n.func f{n}\nexit;\n")).collect::<String>();
        let document = Document::parse(&text(100_000), "f", "main").unwrap();
        assert_eq!((document.maps.len(), document.sections[0].funcs.len()), (100_000, 100_000));
        let wrong = ".func a\nwrong;\n".repeat(10_000);
        assert!(Document::parse(&wrong, "f", "main").unwrap_err().to_string().len() < 1 << 20);
    }

    #[test]
    fn every_mistake_has_its_line_and_column() {
        let text =
            ".map m hsh\n  .lisence x\nr0 = 0;\nr99 = 1;\n.func f\nr0 = {x};\n.func a b\n.license \"x\n.bytes 1\n";
        let error = Document::parse(text, "f", "main").unwrap_err().to_string();
        for part in [
            "f:1:1: there is no type of map `hsh`; did you mean hash?\n  .map m hsh\n  ^",
            "f:2:3: there is no directive `.lisence`; did you mean `.license`?",
            "f:4:1: no statement begins with `r99`",
            "f:6:6: a text has no Rust expressions",
            "f:7:1: expected a name after `.func`",
            "f:8:10: a quote that does not end",
            "f:9:1: half a byte",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
        for (text, part) in [
            (".func f\nexit;\n.func f\nexit;", "function `f` is there twice"),
            (".map m hash\n.map m hash", "map `m` is there twice"),
            (".section a\n.section a", "section `a` is there twice"),
            (".func f\n.func g\nexit;", "f:2:1: function `f` before this has no instruction"),
            ("exit;\n.func f\n", "function `f` before this has no instruction"),
            (".endian middle", "neither"),
            (".map m hash key", "something after `key`"),
            (".map m hash keys 4", "found `keys`"),
            (".map m hash key 99999999999", "too large"),
        ] {
            let error = Document::parse(text, "f", "main").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
