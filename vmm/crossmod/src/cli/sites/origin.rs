//! What a result is about, and where it was obtained.

use crossmod::host::Host;
use crossmod::linux::Image;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Images and host of a result.
pub struct Origin<'a> {
    images: &'a [Image],
    /// The host.
    pub host: Host,
    /// The image's name, or how many there are.
    pub name: String,
    /// Its SHA-256; of several images, that of the list that `sha256sum` would print of them.
    pub digest: String,
}

impl Origin<'_> {
    /// Of these images, on this host.
    pub fn new<'a>(images: &'a [Image], host: &Host) -> Origin<'a> {
        let (name, digest) = match images {
            [image] => (image.name.clone(), image.digest.clone()),
            images => {
                let list: String =
                    images.iter().map(|image| format!("{}  {}\n", image.digest, image.name)).collect();
                let digest = Sha256::digest(list).iter().map(|byte| format!("{byte:02x}")).collect();
                (format!("{} images", images.len()), digest)
            }
        };
        Origin { images, host: host.clone(), name, digest }
    }

    /// The images in a line.
    pub fn images(&self) -> String {
        format!("{}, SHA-256 {}", self.name, self.digest)
    }

    /// Each image.
    pub fn list(&self) -> Value {
        let one =
            |image: &Image| json!({ "name": image.name, "release": image.release, "sha256": image.digest });
        self.images.iter().map(one).collect()
    }
}
