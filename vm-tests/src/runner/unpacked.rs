//! Kernel images without their compression, so that no emulated processor has to undo it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::Endianness;
use object::elf::{FileHeader64, NoteType};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::kept::{self, Kind};

/// What the payload of a bzImage may begin with, and what undoes that compression.
const PACKERS: [(&[u8], &str); 4] =
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4"), (b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b", "gzip")];

/// `XEN_ELFNOTE_PHYS32_ENTRY` of the kernel's xen/interface/elfnote.h: where a machine monitor begins that loads a vmlinux by itself.
const ENTRY: (&[u8], NoteType) = (b"Xen", NoteType(18));

/// The vmlinux in a bzImage, kept below `work` by a hash of what is in the image; none where there is nothing that can undo the
/// compression, or the kernel can only be begun by its own decompressor.
pub fn vmlinux(work: &Path, image: &Path) -> Option<PathBuf> {
    let bytes = fs::read(image).ok()?;
    let path = Kind::Unpacked.place(work, &bytes);
    if path.exists() {
        return Some(path);
    }
    let kernel = unpack(&bytes).filter(|kernel| begins_by_itself(kernel))?;
    // There may be no room on the disk: the image as it came does as well.
    kept::write(&path, &kernel).ok().map(|()| path)
}

/// What is packed in a bzImage, by the header that Documentation/arch/x86/boot.rst describes.
fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| usize::try_from(u32::from_le_bytes(*image.get(at..)?.first_chunk()?)).ok();
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = usize::from(*image.get(0x1f1)?).max(1) + 1;
    let start = (sectors * 512).checked_add(word(0x248)?)?;
    let payload = image.get(start..start.checked_add(word(0x24c)?)?)?;
    let (_, program) = PACKERS.iter().find(|(magic, _)| payload.starts_with(magic))?;
    // How long it is unpacked stands behind it; gzip has that itself.
    let (packed, &length) = payload.split_last_chunk::<4>()?;
    let packed = if *program == "gzip" { payload } else { packed };
    let kernel = filter(program, packed)?;
    (kernel.len() == usize::try_from(u32::from_le_bytes(length)).ok()?).then_some(kernel)
}

/// What `PROGRAM -dc` makes of this.
fn filter(program: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut pipe = child.stdin.take()?;
    let output = std::thread::scope(|scope| {
        // It ends when it has read all, or stops reading at what is wrong.
        scope.spawn(move || pipe.write_all(input));
        child.wait_with_output()
    });
    output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
}

/// Whether a vmlinux says where a machine monitor is to begin.
fn begins_by_itself(kernel: &[u8]) -> bool {
    let notes = || -> object::Result<bool> {
        let header = FileHeader64::<Endianness>::parse(kernel)?;
        let endian = header.endian()?;
        for segment in header.program_headers(endian, kernel)? {
            let mut notes = segment.notes(endian, kernel)?;
            while let Some(note) = notes.as_mut().map(|notes| notes.next()).transpose()?.flatten() {
                if (note.name(), note.n_type(endian)) == ENTRY {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    };
    notes().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image that has this in it, packed by this program.
    fn image(program: &str, kernel: &[u8]) -> Option<Vec<u8>> {
        let directory = tempfile::tempdir().expect("directory");
        let plain = directory.path().join("plain");
        fs::write(&plain, kernel).expect("write");
        let options: &[&str] = if program == "lz4" { &["-lc"] } else { &["-c"] };
        let mut packed = Command::new(program).args(options).arg(&plain).output().ok()?.stdout;
        if program != "gzip" {
            packed.extend(u32::try_from(kernel.len()).expect("a length").to_le_bytes());
        }
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(packed.len()).expect("a length").to_le_bytes());
        image.extend(packed);
        Some(image)
    }

    #[test]
    fn what_was_packed_is_unpacked_and_what_is_broken_is_left_as_it_is() {
        let kernel: Vec<u8> = (0..200_000_u32).flat_map(|word| (word / 7).to_le_bytes()).collect();
        for (_, program) in PACKERS {
            let Some(mut packed) = image(program, &kernel) else {
                eprintln!("skipped: there is no {program}");
                continue;
            };
            assert!(unpack(&packed).is_some_and(|found| found == kernel), "{program}");
            let end = packed.len() - 9;
            packed.truncate(end);
            assert_eq!(unpack(&packed), None, "{program}: the payload is cut");
        }
        for cut in [0, 0x203, 0x24e, 1040] {
            let mut header = image("gzip", b"kernel").expect("gzip");
            header.truncate(cut);
            assert_eq!(unpack(&header), None, "{cut}");
        }
    }

    #[test]
    fn only_what_says_where_to_begin_is_kept() {
        let directory = tempfile::tempdir().expect("directory");
        let this = fs::read(std::env::current_exe().expect("this program")).expect("read");
        let path = directory.path().join("bzImage");
        fs::write(&path, image("gzip", &this).expect("gzip")).expect("write");
        assert_eq!(vmlinux(directory.path(), &path), None, "a program of Linux is not a kernel");
        let mut kernel = this;
        // A note of the C library's or the compiler's becomes the one that is looked for: name, type and all.
        let note = kernel.windows(16).position(|bytes| bytes[..4] == [4, 0, 0, 0] && bytes[12..] == *b"GNU\0");
        let note = note.expect("a note");
        kernel[note + 8..note + 16].copy_from_slice(b"\x12\0\0\0Xen\0");
        fs::write(&path, image("gzip", &kernel).expect("gzip")).expect("write");
        let found = vmlinux(directory.path(), &path).expect("a vmlinux");
        assert_eq!(fs::read(&found).expect("read"), kernel);
        assert_eq!(vmlinux(directory.path(), &path), Some(found), "it is kept");
        assert_eq!(vmlinux(Path::new("/proc/none"), &path), None, "there is no room for it");
    }
}
