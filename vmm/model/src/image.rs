//! The guest image: embedded ELF, its digest and its labels.

use std::collections::BTreeMap;

use crossmod_abi::va;
use object::{Object, ObjectSymbol};
use sha2::{Digest, Sha256};

use crate::hex;
use crate::layout::FILLER;
use crate::plan::Programs;

/// The embedded guest image is not what the host expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("guest image: {0}")]
pub struct ImageError(pub String);

/// Labels of the guest image.
#[derive(Debug, Clone)]
pub struct Image {
    labels: BTreeMap<String, u64>,
    /// The embedded image, then, at `va::PROGRAM`, a plan's programs.
    bytes: Vec<u8>,
    /// Length of the embedded image.
    own: usize,
}

/// The kind of code that a pass belongs to, with the labels of its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassLabels {
    /// The CALL that begins the pass.
    pub begin: u64,
    /// The instruction after it.
    pub end: u64,
    /// `loop`, `nmi`, `irq`, `bp`, …
    pub context: String,
}

impl Image {
    /// Reads the embedded image's labels.
    pub fn embedded() -> Result<Image, ImageError> {
        let bad = |error: &dyn std::fmt::Display| ImageError(error.to_string());
        let file = object::File::parse(crossmod_guest::ELF).map_err(|error| bad(&error))?;
        let labels: BTreeMap<String, u64> = file
            .symbols()
            .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        let text = object::Object::section_by_name(&file, ".text").ok_or_else(|| bad(&"no .text section"))?;
        let bytes = object::ObjectSection::data(&text).map_err(|error| bad(&error))?.to_vec();
        if bytes.len() as u64 > va::PROGRAM - va::IMAGE {
            return Err(ImageError("it does not end before the place of programs".into()));
        }
        Ok(Image { labels, own: bytes.len(), bytes })
    }

    /// Puts a plan's programs in their place, instead of those of the plan before.
    pub fn set_programs(&mut self, programs: &Programs) {
        let start = (va::PROGRAM - va::IMAGE) as usize;
        self.bytes.truncate(self.own);
        self.labels.retain(|_, at| *at < va::PROGRAM);
        if !programs.code.is_empty() {
            self.bytes.resize(start, FILLER);
            self.bytes.extend_from_slice(&programs.code);
            self.labels.extend(programs.labels.iter().cloned());
        }
    }

    /// SHA-256 of the ELF, in hex.
    pub fn digest() -> String {
        hex::packed(&Sha256::digest(crossmod_guest::ELF))
    }

    /// Address of a label.
    pub fn label(&self, name: &str) -> Result<u64, ImageError> {
        self.labels.get(name).copied().ok_or_else(|| ImageError(format!("no label `{name}`")))
    }

    /// The nearest label at or before an address of the image, with the distance.
    pub fn nearest(&self, address: u64) -> Option<(&str, u64)> {
        if !self.contains(address) {
            return None;
        }
        self.labels
            .iter()
            .filter(|&(name, &at)| at <= address && !name.starts_with("pass_") && !name.starts_with('.'))
            .max_by_key(|&(_, &at)| at)
            .map(|(name, &at)| (name.as_str(), address - at))
    }

    /// True for addresses of guest code.
    pub fn contains(&self, address: u64) -> bool {
        (va::IMAGE..va::IMAGE + self.bytes.len() as u64).contains(&address)
    }

    /// The code at an address, up to 15 bytes.
    pub fn code(&self, address: u64) -> &[u8] {
        let start = (address.saturating_sub(va::IMAGE) as usize).min(self.bytes.len());
        &self.bytes[start..self.bytes.len().min(start + 15)]
    }

    /// Every pair of pass labels.
    pub fn passes(&self) -> Result<Vec<PassLabels>, ImageError> {
        self.labels
            .iter()
            .filter_map(|(name, &begin)| Some((name.strip_prefix("pass_call_")?, begin)))
            .map(|(context, begin)| {
                let end = self.label(&format!("pass_done_{context}"))?;
                Ok(PassLabels { begin, end, context: context.to_owned() })
            })
            .collect()
    }

    /// Address and length of all guest code.
    pub fn extent(&self) -> (u64, usize) {
        (va::IMAGE, self.bytes.len())
    }
}
