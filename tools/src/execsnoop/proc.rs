//! What no program could tell, from /proc, as long as the process is there.

use std::fs::{self, File};
use std::io::Read as _;

use super::record::{Arg, End, Event};
use crate::status::Status;

/// The most arguments that interpreters put before those that were asked for.
const MOST_PUT_BEFORE: usize = 10;

/// Fills in what is missing, as far as the process still shows it.
pub fn complete(event: &mut Event, mntns: bool) {
    let pid = event.pid;
    if event.ppid.is_none() {
        event.ppid = Status::of(pid).ok().and_then(|status| status.number("PPid"));
    }
    if mntns && event.mntns.is_none() {
        let link = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        event.mntns = link.and_then(|link| number(&link.to_string_lossy()));
    }
    // The old program of a process whose exec failed was asked for something else.
    if event.ret != 0 || !event.has_holes() {
        return;
    }
    let Some(shown) = command_line(pid) else { return };
    // It may have gone on to run yet another program.
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.strip_suffix(b"\n") == Some(&event.comm) {
        let strings: Vec<&[u8]> = shown.split(|&byte| byte == 0).collect();
        if let Some((_, strings)) = strings.split_last() {
            fill(event, strings);
        }
    }
    if event.name.is_none()
        && let Ok(path) = fs::read_link(format!("/proc/{pid}/exe"))
    {
        event.name = Some(Arg::new(path.as_os_str().as_encoded_bytes()));
    }
}

/// More than the kernel lets a program be given with a usual stack.
const MOST_SHOWN: usize = 4 << 20;

/// The arguments that a process shows, each with its NUL. They are read at once: of a process that ends between two calls the second
/// gets nothing, so that the first part would be taken for all.
fn command_line(pid: u32) -> Option<Vec<u8>> {
    let mut shown = vec![0; MOST_SHOWN];
    let length = File::open(format!("/proc/{pid}/cmdline")).and_then(|mut file| file.read(&mut shown)).ok()?;
    shown.truncate(length);
    (length < MOST_SHOWN && shown.ends_with(b"\0")).then_some(shown)
}

/// `mnt:[4026531841]`
pub fn number(link: &str) -> Option<u32> {
    link.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}

/// Fills the holes of argv from the new program's, where what is known of the one agrees with the other.
fn fill(event: &mut Event, image: &[&[u8]]) {
    if image.is_empty() {
        return;
    }
    if event.end == End::Unreadable {
        // Nobody knows how many there are, so all of the image's are taken.
        event.is_image = true;
        event.is_script = None;
        event.argv = image.iter().map(|arg| Some(Arg::new(arg))).collect();
        event.end = End::Null;
        return;
    }
    // A script's own argv[0] is not in the image; what is put there instead may be longer.
    let most = if event.is_image { 0 } else { MOST_PUT_BEFORE };
    let offset = (0..=most).find(|offset| {
        let length = event.argv.len() + offset;
        let fits = if event.end == End::Null { image.len() == length } else { image.len() > length };
        let first = usize::from(*offset != 0);
        let known = event.argv.iter().zip(image.iter().skip(*offset)).skip(first);
        fits && known.into_iter().all(|(arg, image)| arg.as_ref().is_none_or(|arg| *arg == Arg::new(image)))
    });
    let Some(offset) = offset else { return };
    let first = usize::from(offset != 0);
    for (arg, image) in event.argv.iter_mut().zip(image.iter().skip(offset)).skip(first) {
        arg.get_or_insert_with(|| Arg::new(image));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event that was read at the entry.
    fn event(argv: &[Option<&str>], end: End) -> Event {
        let arg = |text: &str| Arg::new(text.as_bytes());
        Event {
            pid: 1,
            ppid: None,
            comm: b"x".to_vec(),
            uid: 0,
            ret: 0,
            mntns: None,
            name: Some(arg("./x")),
            argv: argv.iter().map(|text| text.map(arg)).collect(),
            end,
            is_script: Some(false),
            is_image: false,
        }
    }

    fn filled(argv: &[Option<&str>], end: End, image: &[&str]) -> Vec<String> {
        let mut event = event(argv, end);
        let image: Vec<&[u8]> = image.iter().map(|text| text.as_bytes()).collect();
        fill(&mut event, &image);
        let text =
            |arg: Option<&Arg>| arg.map_or("?".to_owned(), |arg| String::from_utf8_lossy(&arg.bytes).into_owned());
        event.arguments(20).0.into_iter().map(text).collect()
    }

    #[test]
    fn holes_are_filled_where_the_rest_agrees() {
        let argv = [Some("x"), None, Some("b"), None];
        assert_eq!(filled(&argv, End::Null, &["x", "a", "b", "c"]), ["./x", "a", "b", "c"]);
        // It is another program's by now.
        assert_eq!(filled(&argv, End::Null, &["x", "a", "B", "c"]), ["./x", "?", "b", "?"]);
        assert_eq!(filled(&argv, End::Null, &["x", "a", "b"]), ["./x", "?", "b", "?"]);
        assert_eq!(filled(&argv, End::Null, &[]), ["./x", "?", "b", "?"]);
        // More than were copied.
        assert_eq!(filled(&argv, End::Limit, &["x", "a", "b", "c", "d"]), ["./x", "a", "b", "c"]);
    }

    #[test]
    fn the_arguments_of_a_script_are_the_last_ones() {
        let argv = [Some("x"), None, Some("b")];
        assert_eq!(filled(&argv, End::Null, &["/bin/sh", "-e", "./x", "a", "b"]), ["./x", "a", "b"]);
        assert_eq!(filled(&argv, End::Null, &["/bin/sh", "./x", "a", "b"]), ["./x", "a", "b"]);
    }

    #[test]
    fn where_nothing_is_known_all_is_taken() {
        assert_eq!(filled(&[], End::Unreadable, &["x", "a"]), ["./x", "a"]);
        assert_eq!(filled(&[Some("x")], End::Unreadable, &["/bin/sh", "./x", "a"]), ["./x", "a"]);
    }

    #[test]
    fn a_process_shows_its_arguments() {
        let own: Vec<u8> = std::env::args().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(command_line(std::process::id()), Some(own));
        assert_eq!(command_line(u32::MAX), None);
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_parent() {
        let mut child = crate::status::tests::nameless();
        let mut event = Event { pid: child.id(), ..event(&[], End::Null) };
        complete(&mut event, true);
        child.kill().and_then(|()| child.wait()).unwrap();
        assert_eq!(event.ppid, Some(std::process::id()));
        assert!(event.mntns.is_some());
    }

    #[test]
    fn the_number_of_a_namespace_is_read() {
        assert_eq!((number("mnt:[4026531841]"), number("mnt:[x]"), number("")), (Some(4_026_531_841), None, None));
    }
}
