//! What a file is that is no model: people hand over the archive a model came in, or the page of a failed download.

/// What the beginning of a file says that it is, and what to do about it; `None` where it says nothing known.
pub(super) fn of(file: &[u8]) -> Option<&'static str> {
    const UNPACK: [(&[u8], &str); 7] = [
        (
            b"PK\x03\x04",
            "a zip archive (or a PyTorch checkpoint, which is one): unpack it, and convert a checkpoint to safetensors",
        ),
        (b"\x1f\x8b", "compressed by gzip: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
        (b"\xfd7zXZ\0", "compressed by xz: unpack it first"),
        (b"BZh", "compressed by bzip2: unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
        (b"Rar!\x1a\x07", "a rar archive: unpack it first"),
    ];
    const OTHERS: [(&[u8], &str); 9] = [
        (
            b"version https://git-lfs",
            "a pointer of git-lfs and not the file itself: `git lfs pull` fetches it",
        ),
        (b"<!DOCTYPE", "a web page: the download failed"),
        (b"<!doctype", "a web page: the download failed"),
        (b"<html", "a web page: the download failed"),
        (
            b"{",
            "JSON: give the folder that holds config.json and the weights",
        ),
        (
            b"lmgg",
            "a GGML file from before GGUF: convert the model anew",
        ),
        (
            b"tjgg",
            "a GGML file from before GGUF: convert the model anew",
        ),
        (
            b"FUGG",
            "a GGUF file for big-endian machines, which this build does not read",
        ),
        (
            b"\x80\x02",
            "a Python pickle: convert the model to safetensors or GGUF",
        ),
    ];
    if file.is_empty() {
        return Some("empty: the download did not begin");
    }
    let starts = UNPACK.iter().chain(&OTHERS);
    if let Some((_, what)) = starts.clone().find(|(start, _)| file.starts_with(start)) {
        return Some(what);
    }
    // A tar archive begins with the name of its first file.
    if file.get(257..262) == Some(b"ustar") {
        return Some("a tar archive: unpack it first");
    }
    // Eight bytes of length, then JSON.
    match file.get(..9) {
        Some([_, _, _, _, 0, 0, 0, 0, b'{']) => {
            Some("a safetensors file: give the folder that holds it and its config.json")
        }
        Some(head) if head.iter().all(|byte| *byte == 0) => {
            Some("zeros at its beginning: the download did not finish")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn what_is_handed_over_by_mistake_is_recognised() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"PK\x03\x04rest", "a zip archive"),
            (b"\x1f\x8b\x08", "gzip"),
            (&tar, "a tar archive"),
            (
                b"version https://git-lfs.github.com/spec/v1",
                "git lfs pull",
            ),
            (b"<!DOCTYPE html>", "the download failed"),
            (b"{\"a\": 1}", "config.json"),
            (b"\x10\0\0\0\0\0\0\0{\"a\"", "a safetensors file"),
            (&[0; 64], "did not finish"),
        ] {
            let found = of(bytes).unwrap_or_default();
            assert!(
                found.contains(part),
                "{} is {found:?}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(of(b"GGUF\x03\0\0\0"), None);
        assert_eq!(of(b"anything else"), None);
    }
}
