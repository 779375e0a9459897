//! The header of a GGUF file: its metadata, and where its tensors lie.
//!
//! The file comes from outside. Every length is compared with what is left before anything is allocated by it, and
//! what one header may make us keep is bounded. candle's reader refuses the whole file where one tensor has a type
//! that it does not know; this one keeps such a tensor, so that the error can name it and `kakeya inspect` can list
//! the others. Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::{BTreeMap, HashMap};

use candle_core::quantized::gguf_file::Value;

use super::ggml::GgmlType;

/// The largest header in bytes. Vocabularies of 262,144 tokens make headers of some 10 MB.
const LARGEST: usize = 256 << 20;
/// The most metadata entries. Files have some 40.
const MOST_ENTRIES: u64 = 1 << 16;
/// The most tensors. Files have a few thousand.
const MOST_TENSORS: u64 = 1 << 18;
/// The most elements of all arrays together. Each takes more memory than it takes bytes in the file.
const MOST_ELEMENTS: u64 = 1 << 22;
/// How deep arrays may lie in arrays. No known key has one in another.
const DEEPEST: usize = 8;
/// Dimensions of a tensor (`GGML_MAX_DIMS`).
const MOST_DIMENSIONS: u32 = 4;
/// Where tensors begin, if the file says nothing.
const ALIGNMENT: u64 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// What a header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: BTreeMap<String, Place>,
    /// Where the tensors' data begins, in bytes from the start of the file.
    pub(super) data: u64,
}

/// Where a tensor lies.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: GgmlType,
    /// The outermost dimension first.
    pub(super) shape: Vec<usize>,
    /// From the start of the data.
    pub(super) offset: u64,
}

impl Header {
    /// Reads a header from the beginning of a file, magic and version included.
    ///
    /// # Errors
    /// What is wrong, at which byte, and what would be right.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(file);
        reader.word("the magic")?;
        let version = reader.word("the version")?;
        reader.version = version;
        let tensors = reader.count("tensors", MOST_TENSORS)?;
        let entries = reader.count("metadata entries", MOST_ENTRIES)?;
        let metadata = reader.metadata(entries)?;
        let tensors = reader.tensors(tensors)?;
        let alignment = match metadata.get(ALIGNMENT_KEY) {
            None => ALIGNMENT,
            Some(Value::U32(found)) if found.is_power_of_two() && *found <= 1 << 20 => {
                u64::from(*found)
            }
            Some(found) => {
                return Err(format!(
                    "field {ALIGNMENT_KEY} is {found:?}, expected a u32 that is a power of two, at most {}",
                    1 << 20
                ));
            }
        };
        Ok(Self {
            version,
            metadata,
            tensors,
            data: (reader.at as u64).next_multiple_of(alignment),
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Whether the file goes on where `bytes` end.
    cut: bool,
    at: usize,
    version: u32,
    elements: u64,
}

impl<'a> Reader<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self {
            bytes: &file[..file.len().min(LARGEST)],
            cut: file.len() > LARGEST,
            at: 0,
            version: 0,
            elements: 0,
        }
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], String> {
        if length > self.left() {
            let left = self.left();
            return Err(match self.cut {
                true => format!(
                    "{what} at byte {} needs {length} bytes, and a header has at most {LARGEST} in all",
                    self.at
                ),
                false => format!(
                    "{what} at byte {} needs {length} bytes, and the file has {left} more",
                    self.at
                ),
            });
        }
        let bytes = &self.bytes[self.at..][..length as usize];
        self.at += length as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    fn word(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Lengths, counts and dimensions, which version 1 has in 32 bits.
    fn length(&mut self, what: &str) -> Result<u64, String> {
        match self.version {
            1 => self.word(what).map(u64::from),
            _ => self.array(what).map(u64::from_le_bytes),
        }
    }

    fn count(&mut self, what: &str, most: u64) -> Result<u64, String> {
        let at = self.at;
        match self.length(what)? {
            count if count <= most => Ok(count),
            count => Err(format!(
                "byte {at} says that there are {count} {what}, expected at most {most}"
            )),
        }
    }

    /// Some files end strings with NUL, and some strings are not UTF-8.
    fn string(&mut self, what: &str) -> Result<String, String> {
        let length = self.length(what)?;
        let bytes = self.take(length, what)?;
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn metadata(&mut self, entries: u64) -> Result<HashMap<String, Value>, String> {
        let mut metadata = HashMap::new();
        for entry in 0..entries {
            let key = self.string(&format!("the key of metadata entry {entry}"))?;
            let what = format!("the value of {}", shown(&key));
            let kind = self.word(&what)?;
            let value = self.value(kind, &what, 0)?;
            if metadata.contains_key(&key) {
                return Err(format!(
                    "the key {} comes twice, expected once",
                    shown(&key)
                ));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, what: &str, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::U8(self.array::<1>(what)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(what)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => match self.array::<1>(what)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                found => return Err(format!("{what} is the boolean {found}, expected 0 or 1")),
            },
            8 => Value::String(self.string(what)?),
            9 => Value::Array(self.elements(what, depth + 1)?),
            10 => Value::U64(u64::from_le_bytes(self.array(what)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            _ => {
                return Err(format!(
                    "{what}, before byte {}, has type {kind}, expected one from 0 to 12",
                    self.at
                ));
            }
        })
    }

    fn elements(&mut self, what: &str, depth: usize) -> Result<Vec<Value>, String> {
        if depth > DEEPEST {
            return Err(format!(
                "{what} has arrays in arrays at byte {}, expected at most {DEEPEST} of them",
                self.at
            ));
        }
        let kind = self.word(what)?;
        let count = self.length(what)?;
        self.elements = self.elements.saturating_add(count);
        if self.elements > MOST_ELEMENTS {
            return Err(format!(
                "{what} has {count} elements, expected at most {MOST_ELEMENTS} in all arrays together"
            ));
        }
        // No element takes less than a byte.
        if count > self.left() {
            return Err(format!(
                "{what} has {count} elements, and the file has {} more bytes",
                self.left()
            ));
        }
        let mut elements = Vec::with_capacity(count as usize);
        for _ in 0..count {
            elements.push(self.value(kind, what, depth)?);
        }
        Ok(elements)
    }

    fn tensors(&mut self, count: u64) -> Result<BTreeMap<String, Place>, String> {
        let mut tensors = BTreeMap::new();
        for number in 0..count {
            let name = self.string(&format!("the name of tensor {number}"))?;
            let what = format!("the description of tensor {}", shown(&name));
            let dimensions = self.word(&what)?;
            if dimensions > MOST_DIMENSIONS {
                return Err(format!(
                    "{what} gives it {dimensions} dimensions, expected at most {MOST_DIMENSIONS}"
                ));
            }
            let mut shape = Vec::with_capacity(dimensions as usize);
            for _ in 0..dimensions {
                let length = self.length(&what)?;
                shape.push(usize::try_from(length).map_err(|_| {
                    format!("{what} gives it a dimension of {length}, expected a length in memory")
                })?);
            }
            shape.reverse();
            let place = Place {
                shape,
                kind: GgmlType(self.word(&what)?),
                offset: u64::from_le_bytes(self.array(&what)?),
            };
            if tensors.contains_key(&name) {
                return Err(format!(
                    "the tensor {} comes twice, expected once",
                    shown(&name)
                ));
            }
            tensors.insert(name, place);
        }
        Ok(tensors)
    }
}

/// A name as an error shows it: its beginning, and no control characters.
fn shown(name: &str) -> String {
    const LONGEST: usize = 60;
    match name.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{:?}…", &name[..cut]),
        None => format!("{name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 3 that announces so much, and then has these bytes.
    fn header(tensors: u64, entries: u64, rest: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes.extend(rest.concat());
        bytes
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text].concat()
    }

    fn refused(bytes: &[u8], parts: &[&str]) {
        let error = Header::read(bytes).expect_err("it should be refused");
        for part in parts {
            assert!(error.contains(part), "lacks {part:?}: {error}");
        }
    }

    const HUGE: u64 = 1 << 60;

    #[test]
    fn counts_and_lengths_beyond_the_file_are_refused_before_anything_is_allocated() {
        refused(
            &header(HUGE, 0, &[]),
            &[
                "byte 8",
                "1152921504606846976 tensors",
                "expected at most 262144",
            ],
        );
        refused(
            &header(0, HUGE, &[]),
            &["byte 16", "metadata entries", "at most 65536"],
        );
        let huge = HUGE.to_le_bytes();
        refused(
            &header(0, 1, &[&huge]),
            &["the key of metadata entry 0", "and the file has 0 more"],
        );
        refused(
            &header(0, 1, &[&text(b"a.b"), &[8, 0, 0, 0], &huge]),
            &["the value of \"a.b\"", "needs 1152921504606846976 bytes"],
        );
        refused(
            &header(0, 1, &[&text(b"a.b"), &[9, 0, 0, 0], &[0, 0, 0, 0], &huge]),
            &["\"a.b\" has 1152921504606846976 elements", "4194304"],
        );
        refused(
            &header(
                0,
                1,
                &[
                    &text(b"a.b"),
                    &[9, 0, 0, 0],
                    &[0, 0, 0, 0],
                    &1000_u64.to_le_bytes(),
                ],
            ),
            &["has 1000 elements, and the file has 0 more bytes"],
        );
        refused(&header(1, 0, &[&huge]), &["the name of tensor 0"]);
    }

    #[test]
    fn arrays_in_arrays_without_end_are_refused() {
        let nested: Vec<u8> = [&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()]
            .concat()
            .repeat(100_000);
        let bytes = header(0, 1, &[&text(b"deep"), &[9, 0, 0, 0], &nested]);
        refused(&bytes, &["\"deep\" has arrays in arrays", "at most 8"]);
    }

    #[test]
    fn every_type_and_number_outside_the_format_is_named() {
        refused(
            &header(0, 1, &[&text(b"k"), &[13, 0, 0, 0]]),
            &["\"k\"", "has type 13, expected one from 0 to 12"],
        );
        refused(
            &header(0, 1, &[&text(b"k"), &[7, 0, 0, 0], &[2]]),
            &["is the boolean 2"],
        );
        refused(
            &header(1, 0, &[&text(b"t"), &[5, 0, 0, 0]]),
            &["tensor \"t\" gives it 5 dimensions", "at most 4"],
        );
        for alignment in [0_u32, 3, 1 << 21] {
            let value = alignment.to_le_bytes();
            refused(
                &header(0, 1, &[&text(b"general.alignment"), &[4, 0, 0, 0], &value]),
                &[
                    "general.alignment",
                    &format!("U32({alignment})"),
                    "power of two",
                ],
            );
        }
        let entry = [&text(b"k")[..], &[0, 0, 0, 0, 1]].concat();
        refused(
            &header(0, 2, &[&entry, &entry]),
            &["the key \"k\" comes twice"],
        );
        let tensor = [&text(b"t")[..], &[0; 4], &[0; 4], &[0; 8]].concat();
        refused(
            &header(2, 0, &[&tensor, &tensor]),
            &["the tensor \"t\" comes twice"],
        );
    }

    #[test]
    fn a_header_that_breaks_off_anywhere_is_refused() {
        let whole = header(
            1,
            2,
            &[
                &text(b"name"),
                &[8, 0, 0, 0],
                &text(b"value\0"),
                &text(b"list"),
                &[9, 0, 0, 0, 4, 0, 0, 0],
                &2_u64.to_le_bytes(),
                &[1, 0, 0, 0, 2, 0, 0, 0],
                &text(b"t"),
                &[2, 0, 0, 0],
                &32_u64.to_le_bytes(),
                &3_u64.to_le_bytes(),
                &[99, 0, 0, 0],
                &64_u64.to_le_bytes(),
            ],
        );
        for length in 0..whole.len() {
            refused(&whole[..length], &["and the file has"]);
        }
        let header = Header::read(&whole).expect("whole");
        assert!(matches!(&header.metadata["name"], Value::String(text) if text == "value"));
        let place = &header.tensors["t"];
        assert_eq!((&place.shape[..], place.offset), (&[3, 32][..], 64));
        assert_eq!(place.kind.to_string(), "99");
        assert_eq!(header.data, (whole.len() as u64).next_multiple_of(32));
    }
}
