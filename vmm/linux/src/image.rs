//! Reads images: a kernel, a module, or a directory of modules.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::ImageError;
use crate::hex::sha256;
use crate::limits;
use crate::read::elf::Elf;
use crate::read::payload::{Compression, unpack};
use crate::read::{Binary, bzimage, module, vmlinux};
use crate::site::Site;
use crate::table::{self, Tables};

/// One kernel or module with its sites.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file's name, or its path relative to the directory that was read.
    pub name: String,
    /// The kernel's banner, or a module's `vermagic`.
    pub release: Option<String>,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// How the file was compressed.
    pub compression: Option<Compression>,
    /// Bytes and symbols.
    pub binary: Binary,
    /// Sites and exception table.
    pub tables: Tables,
}

impl Image {
    /// Reads an image from the bytes of a file.
    ///
    /// # Errors
    ///
    /// If the file is not a kernel or module for x86-64, is damaged, or exceeds [`limits`]. No file makes this panic,
    /// loop, or allocate more than a small multiple of the limits.
    pub fn parse(name: &str, bytes: Vec<u8>) -> Result<Image, ImageError> {
        let digest = sha256(&bytes);
        let (bytes, compression) = open(bytes)?;
        let relocatable = Elf::parse(&bytes)?.relocatable;
        let binary = if relocatable { module::read(&bytes)? } else { vmlinux::read(bytes)? };
        let tables = table::read(&binary)?;
        Ok(Image { name: name.to_owned(), release: release(&binary), digest, compression, binary, tables })
    }

    /// The function that contains a site, and the site's offset in it.
    pub fn label(&self, site: &Site) -> String {
        self.binary.symbols.label(site.address)
    }

    /// The function that contains a site.
    pub fn function(&self, site: &Site) -> &str {
        self.binary.symbols.containing(site.address).map_or("?", |symbol| &symbol.name)
    }
}

/// Unpacks a bzImage or a compressed module; returns other files as they are.
fn open(bytes: Vec<u8>) -> Result<(Vec<u8>, Option<Compression>), ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::new("file", "it is empty", "download it again"));
    }
    if bzimage::is(&bytes) {
        return bzimage::kernel(&bytes).map(|(kernel, compression)| (kernel, Some(compression)));
    }
    match Compression::of(&bytes) {
        Some(compression @ (Compression::Gzip | Compression::Xz | Compression::Zstd)) => {
            Ok((unpack(&bytes, compression, "file", limits::UNPACKED)?, Some(compression)))
        }
        _ if bytes.starts_with(b"!<arch>\n") => Err(ImageError::new(
            "file",
            "it is an archive",
            "unpack a Debian package with `dpkg-deb -x`, and pass its boot/vmlinuz-* or lib/modules",
        )),
        _ => Ok((bytes, None)),
    }
}

fn release(binary: &Binary) -> Option<String> {
    let memory = &binary.memory;
    let (address, prefix) = if binary.module {
        let region = memory.named(".modinfo")?;
        let contents = memory.contents(region);
        let at = contents.windows(9).position(|window| window == b"vermagic=")?;
        (region.address + at as u64, "vermagic=")
    } else {
        (binary.symbols.address("linux_banner")?, "Linux version ")
    };
    let bytes = memory.from(address)?;
    let end = bytes.iter().take(512).position(|byte| matches!(byte, 0 | b'\n'))?;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    text.strip_prefix(prefix).map(str::to_owned)
}

/// Reads a file, or every module below a directory, sorted by path. `progress` receives the number of files read so far
/// and the number of all files.
///
/// # Errors
///
/// If a file cannot be read, and those of [`Image::parse`]; both name the file.
pub fn load(path: &Path, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Image>, ImageError> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_dir() {
        let name =
            path.file_name().map_or_else(|| "image".into(), |name| name.to_string_lossy().into_owned());
        return Ok(vec![file(path, &name)?]);
    }
    let mut files = Vec::new();
    modules(path, 0, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(ImageError::new(
            "directory",
            "it contains no .ko, .ko.gz, .ko.xz or .ko.zst",
            "pass a kernel, a module, or a directory such as lib/modules/RELEASE/kernel",
        )
        .in_file(&path.display().to_string()));
    }
    many(path, &files, progress)
}

/// Reads modules on all CPUs. The first error stops all workers.
fn many(
    root: &Path,
    files: &[PathBuf],
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Image>, ImageError> {
    let next = AtomicUsize::new(0);
    let read = Mutex::new(Ok(BTreeMap::new()));
    let work = || {
        while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let image = file(path, &path.strip_prefix(root).unwrap_or(path).display().to_string());
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *read, image) {
                (Ok(images), Ok(image)) => {
                    images.insert(path, image);
                    progress(images.len(), files.len());
                }
                (Ok(_), Err(error)) => *read = Err(error),
                (Err(_), _) => break,
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    Ok(read.into_inner().unwrap_or_else(PoisonError::into_inner)?.into_values().collect())
}

fn modules(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ImageError> {
    if depth > limits::DEPTH || files.len() > limits::MODULES {
        return Err(ImageError::new("directory", "it is too large or too deep", "pass a subdirectory")
            .in_file(&directory.display().to_string()));
    }
    let fail = |error: std::io::Error| unreadable(directory, &error);
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // Links are not followed: `build` and `source` lead out of the directory, and others may form loops.
        let kind = entry.file_type().map_err(fail)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() {
            modules(&path, depth + 1, files)?;
        } else if kind.is_file()
            && [".ko", ".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn file(path: &Path, name: &str) -> Result<Image, ImageError> {
    let here = path.display().to_string();
    let fail = |error| unreadable(path, &error);
    let metadata = std::fs::metadata(path).map_err(fail)?;
    let refuse = |reason: String, remedy: &str| Err(ImageError::new("file", reason, remedy).in_file(&here));
    if !metadata.is_file() {
        return refuse(
            "it is not a regular file".into(),
            "pass a kernel, a module, or a directory of modules",
        );
    }
    if metadata.len() > limits::FILE {
        return refuse(
            format!("it has {} bytes, more than the limit of {}", metadata.len(), limits::FILE),
            "pass a kernel or a module: no kernel is that large",
        );
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // The file may grow while it is read.
    File::open(path).map_err(fail)?.take(limits::FILE).read_to_end(&mut bytes).map_err(fail)?;
    Image::parse(name, bytes).map_err(|error| error.in_file(&here))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ImageError {
    ImageError::new(
        "file",
        error.to_string(),
        "pass the path of a kernel, a module, or a directory of modules",
    )
    .in_file(&path.display().to_string())
}
