//! Which kernel runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use bpfkit_asm::Version;

/// Where the kernel says its release.
pub(crate) const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// What `uname -r` says of the running kernel; none where /proc does not tell.
pub fn release() -> Option<String> {
    read_release().ok()
}

/// The same, and why it cannot be told.
pub(crate) fn read_release() -> std::io::Result<String> {
    std::fs::read_to_string(RELEASE).map(|text| text.trim().to_owned())
}

/// The build ID of the running kernel, in hexadecimal digits; none where it has none, or does not show it.
pub(crate) fn build_id() -> Option<String> {
    gnu_note(&std::fs::read("/sys/kernel/notes").ok()?).and_then(bpfkit_btf::build_id_digits)
}

/// What the note `GNU` of type 3 says. Name and description are padded to 4 bytes each.
fn gnu_note(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let word = |at: usize| notes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
        let (name, description, kind) = (word(0)?, word(4)?, word(8)?);
        let [name, description] = [name, description].map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let start = 12_usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = start.checked_add(description)?;
        if kind == 3 && notes.get(12..12 + 4) == Some(b"GNU\0") && name == 4 {
            return notes.get(start..end);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

/// The version as LINUX_VERSION_CODE has it, which kernels before 5.0 want to be told with kprobe programs.
///
/// uname is wrong on Debian and Ubuntu, where it names the ABI; the vDSO has it in its note of type 0 and name `Linux`.
pub(crate) fn version_code() -> Option<u32> {
    // Each program that is loaded or tried wants it.
    static CODE: OnceLock<Option<u32>> = OnceLock::new();
    *CODE.get_or_init(find_version_code)
}

fn find_version_code() -> Option<u32> {
    vdso().and_then(|vdso| note(&vdso)).or_else(|| code(&release()?))
}

/// The version of a release such as `6.12.48-1-amd64`. Each number has a byte; the last one does not go beyond that (4.9.256).
pub(crate) fn code(release: &str) -> Option<u32> {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    let (major, minor, patch) = (numbers.next()?, numbers.next()?, numbers.next().unwrap_or_default());
    (major <= 0xff && minor <= 0xff).then(|| major << 16 | minor << 8 | patch.min(0xff))
}

/// The version, major and minor.
pub(crate) fn version() -> Option<Version> {
    let code = version_code()?;
    Some(Version::new(u16::try_from(code >> 16).ok()?, u16::try_from(code >> 8 & 0xff).ok()?))
}

/// The vDSO's bytes, out of this process's own memory.
fn vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split_whitespace().next()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
    Some(bytes)
}

/// The word of the note `Linux` of type 0. Notes are aligned to 4 bytes; there is a second note `Linux`, of type 256.
pub(crate) fn note(elf: &[u8]) -> Option<u32> {
    let head = [6_u32, 4, 0].map(u32::to_ne_bytes).concat();
    let wanted = [head.as_slice(), b"Linux\0\0\0"].concat();
    let at = (0..elf.len()).step_by(4).find(|&at| elf[at..].starts_with(&wanted))?;
    elf.get(at + wanted.len()..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vdso_and_uname_agree_on_major_and_minor() {
        let code = note(&vdso().expect("a vDSO")).expect("a note");
        let release: Version = release().unwrap().parse().unwrap();
        assert_eq!((code >> 16, code >> 8 & 0xff), (release.major.into(), release.minor.into()));
    }

    #[test]
    fn the_build_id_is_in_the_note_of_gnu() {
        let note = |name: &[u8], kind: u32, text: &[u8]| {
            let sizes = [name.len(), text.len()].map(|size| u32::try_from(size).unwrap().to_ne_bytes());
            let mut note = [sizes.concat().as_slice(), &kind.to_ne_bytes(), name].concat();
            note.resize(note.len().next_multiple_of(4), 0);
            note.extend(text);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        let notes = [note(b"Linux\0", 0, b"12345"), note(b"GNU\0", 1, b"no"), note(b"GNU\0", 3, b"build")].concat();
        assert_eq!(gnu_note(&notes), Some(&b"build"[..]));
        for end in 0..notes.len() {
            let _ = gnu_note(&notes[..end]);
        }
        assert_eq!(gnu_note(&[0xff; 64]), None);
        assert_eq!(gnu_note(&[0; 64]), None);
    }

    #[test]
    fn the_note_of_another_type_is_passed_over() {
        let note_of = |kind: u32, word: u32| {
            [6_u32.to_ne_bytes(), 4_u32.to_ne_bytes(), kind.to_ne_bytes(), *b"Linu", *b"x\0\0\0", word.to_ne_bytes()]
                .concat()
        };
        let elf = [note_of(256, 7), note_of(0, 0x0004_1200)].concat();
        assert_eq!(note(&elf), Some(0x0004_1200));
        for end in 0..elf.len() {
            let _ = note(&elf[..end]);
        }
    }
}
