//! Where a result was obtained, and from which images.

use crossmod_linux::{Image, sha256};
use serde::Serialize;

use crate::host::Host;

/// Images and host of a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Origin {
    /// The host.
    pub host: Host,
    /// The image's name, or the number of images.
    #[serde(skip)]
    pub name: String,
    /// SHA-256 of the image; for several images, of the list that `sha256sum` would print.
    #[serde(skip)]
    pub digest: String,
    /// Each image.
    pub images: Vec<ImageRecord>,
}

/// An image of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageRecord {
    /// Name of the file.
    pub name: String,
    /// The kernel's banner, or a module's `vermagic`.
    pub release: Option<String>,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

impl Origin {
    /// The origin of a result that was obtained from these images on this host.
    pub fn new(images: &[Image], host: &Host) -> Origin {
        let (name, digest) = match images {
            [image] => (image.name.clone(), image.digest.clone()),
            images => {
                let list: String =
                    images.iter().map(|image| format!("{}  {}\n", image.digest, image.name)).collect();
                (format!("{} images", images.len()), sha256(list))
            }
        };
        let record = |image: &Image| ImageRecord {
            name: image.name.clone(),
            release: image.release.clone(),
            sha256: image.digest.clone(),
        };
        Origin { host: host.clone(), name, digest, images: images.iter().map(record).collect() }
    }

    /// The images in one line.
    pub fn line(&self) -> String {
        format!("{}, SHA-256 {}", self.name, self.digest)
    }
}
