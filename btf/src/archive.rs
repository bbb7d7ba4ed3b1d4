//! The types of many kernels in one small file.
//!
//! Little-endian, and after the first 16 bytes compressed by zlib:
//!
//! | bytes | |
//! |---|---|
//! | 8 | `bpfkBTF` and the version of the format, 1 |
//! | 4 | how many kernels |
//! | 4 | how many bytes follow once they are inflated |
//! | for each kernel: 1, n, 4, 4 | the length n of its release; the release, as `uname -r` has it; where its BTF begins and ends |
//! | the rest | BTF; kernels whose types are equal share it |
//!
//! Places are counted from the first byte after the header.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::ops::Range;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::{Btf, Error};

const MAGIC: &[u8; 8] = b"bpfkBTF\x01";
/// The most bytes that are inflated: thousands of kernels.
const MOST: u32 = 64 << 20;
/// The most kernels: each takes more memory than its nine bytes, and a file of zeros has millions of them in a few thousand bytes.
const MOST_KERNELS: u32 = 1 << 16;

/// Types by release.
#[derive(Clone, Debug)]
pub struct Archive {
    inflated: Vec<u8>,
    kernels: Vec<(String, Range<usize>)>,
}

impl Archive {
    /// Whether a file that begins so is an archive, or meant to be one.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC[..4])
    }

    /// Reads an archive.
    ///
    /// # Errors
    /// What of it cannot be as it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what| Error::Archive(what);
        let rest = bytes.strip_prefix(MAGIC).ok_or(wrong("it does not begin as one"))?;
        let (count, rest) = split_word(rest).ok_or(wrong("its header is cut"))?;
        let (size, rest) = split_word(rest).ok_or(wrong("its header is cut"))?;
        if size > MOST || count > MOST_KERNELS {
            return Err(wrong("it claims to be larger than any"));
        }
        let mut inflated = Vec::new();
        let inflating = ZlibDecoder::new(rest).take(u64::from(size) + 1).read_to_end(&mut inflated);
        if inflating.is_err() || u32::try_from(inflated.len()) != Ok(size) {
            return Err(wrong("it cannot be inflated to the size that it has"));
        }
        let mut kernels = Vec::new();
        let mut index = inflated.as_slice();
        for _ in 0..count {
            let (release, range, rest) = kernel(index).ok_or(wrong("its list of kernels is cut"))?;
            if inflated.get(range.clone()).is_none() {
                return Err(wrong("a kernel's types are outside of it"));
            }
            kernels.push((release, range));
            index = rest;
        }
        Ok(Self { inflated, kernels })
    }

    /// The archive of these kernels, each with its release and its BTF.
    ///
    /// # Errors
    /// A release of more than 255 bytes, or more than fits.
    pub fn write(kernels: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, Error> {
        let large = |_| Error::Archive("it would be too large");
        let mut start = kernels.keys().map(|release| 9 + release.len()).sum::<usize>();
        let mut index = Vec::new();
        let mut blobs = Vec::new();
        let mut known = HashMap::new();
        for (release, blob) in kernels {
            let range = known.entry(blob).or_insert_with(|| {
                blobs.extend(blob);
                start += blob.len();
                start - blob.len()..start
            });
            index.push(u8::try_from(release.len()).map_err(|_| Error::Archive("a release is longer than 255 bytes"))?);
            index.extend(release.bytes());
            for place in [range.start, range.end] {
                index.extend(u32::try_from(place).map_err(large)?.to_le_bytes());
            }
        }
        let size = u32::try_from(index.len() + blobs.len()).map_err(large)?;
        let count = u32::try_from(kernels.len()).map_err(large)?;
        if size > MOST || count > MOST_KERNELS {
            return Err(Error::Archive("it would be too large"));
        }
        let mut out = MAGIC.to_vec();
        out.extend(count.to_le_bytes());
        out.extend(size.to_le_bytes());
        let mut encoder = ZlibEncoder::new(out, Compression::best());
        let written = encoder.write_all(&index).and_then(|()| encoder.write_all(&blobs));
        written.and_then(|()| encoder.finish()).map_err(|_| Error::Archive("it cannot be compressed"))
    }

    /// The releases of its kernels.
    pub fn releases(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|(release, _)| release.as_str())
    }

    /// The types of the first kernel whose release is one of those that are asked for.
    ///
    /// # Errors
    /// When there is none, or when its types are broken.
    pub fn find(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Btf, Error> {
        let found = self.kernels.iter().find(|(release, _)| is_wanted(release));
        let (_, range) = found.ok_or(Error::NoRelease(self.kernels.len()))?;
        Btf::parse(self.inflated[range.clone()].to_vec())
    }
}

fn split_word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}

/// A kernel of the list, and what is behind it.
fn kernel(bytes: &[u8]) -> Option<(String, Range<usize>, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (release, rest) = rest.split_at_checked(length.into())?;
    let (start, rest) = split_word(rest)?;
    let (end, rest) = split_word(rest)?;
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    Some((String::from_utf8(release.to_vec()).ok()?, range, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    fn blob(size: u32) -> Vec<u8> {
        let mut types = Builder::new();
        types.strukt("point", size, &[]);
        types.finish()
    }

    fn archive() -> Vec<u8> {
        let kernels = [("4.18.0-1", blob(1)), ("4.18.0-2", blob(2)), ("5.10.0", blob(1))];
        Archive::write(&kernels.into_iter().map(|(release, blob)| (release.to_owned(), blob)).collect()).unwrap()
    }

    #[test]
    fn each_kernel_has_its_own_types_and_equal_ones_are_kept_once() {
        let archive = Archive::parse(&archive()).unwrap();
        assert_eq!(archive.releases().collect::<Vec<_>>(), ["4.18.0-1", "4.18.0-2", "5.10.0"]);
        let size = |release: &str| archive.find(|known| known == release).unwrap().types().next().unwrap().size();
        assert_eq!((size("4.18.0-1").unwrap(), size("4.18.0-2").unwrap(), size("5.10.0").unwrap()), (1, 2, 1));
        assert_eq!(archive.kernels[0].1, archive.kernels[2].1);
        let missing = archive.find(|known| known == "4.18.0-3").unwrap_err().to_string();
        assert!(missing.contains("3 releases"), "{missing}");
    }

    #[test]
    fn damage_is_an_error_and_no_harm() {
        let good = archive();
        assert!(Archive::begins(&good));
        for end in 0..good.len() {
            assert!(Archive::parse(&good[..end]).is_err(), "{end}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(archive) = Archive::parse(&bytes) {
                    let _ = archive.find(|_| true);
                }
            }
        }
    }

    #[test]
    fn an_archive_that_inflates_beyond_what_it_says_is_refused() {
        let mut encoder = ZlibEncoder::new([&MAGIC[..], &[0; 4], &9_u32.to_le_bytes()].concat(), Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        assert!(Archive::parse(&encoder.finish().unwrap()).unwrap_err().to_string().contains("inflated"));
        for words in [[0, u32::MAX], [MOST_KERNELS + 1, 9]] {
            let huge = [&MAGIC[..], &words.map(u32::to_le_bytes).concat()].concat();
            assert!(Archive::parse(&huge).unwrap_err().to_string().contains("larger"));
        }
    }
}
