//! Facts about the host that accompany every result.

use serde::{Deserialize, Serialize};

/// The host of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `model name` of the first CPU.
    pub cpu: String,
    /// `microcode` of the first CPU, if the kernel reports it.
    pub microcode: Option<String>,
    /// CPUs online.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// The CPU is emulated by QEMU (TCG): what it executes is right, but its times mean nothing, and neither does what
    /// it shows of a CPU's fetches.
    pub emulated: bool,
    /// The KVM module that is loaded: `kvm_intel`, `kvm_amd`, `kvm_pvm`, or `built in or unknown`.
    pub kvm: String,
}

impl Host {
    /// Reads the facts. Those that cannot be read are `unknown`.
    pub fn read() -> Host {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let kvm = ["kvm_pvm", "kvm_amd", "kvm_intel"]
            .into_iter()
            .find(|module| std::path::Path::new("/sys/module").join(module).exists());
        Host {
            cpu: field("model name").unwrap_or_else(|| "unknown".into()),
            microcode: field("microcode"),
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get()),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned()),
            emulated: emulated(),
            kvm: kvm.unwrap_or("built in or unknown").to_owned(),
        }
    }

    /// The fetch model of the vendor's promises: `amd`, or else `intel`, which promises least.
    pub fn vendor(&self) -> &'static str {
        if self.cpu.contains("AMD") { "amd" } else { "intel" }
    }

    /// True if KVM emulates ring 0 instead of running it, for lack of hardware virtualisation.
    pub fn emulates_ring_0(&self) -> bool {
        self.kvm == "kvm_pvm"
    }

    /// One line.
    pub fn line(&self) -> String {
        let lab = if self.emulated { "QEMU/TCG lab: correctness only; " } else { "" };
        format!("{lab}{}, {} CPUs, Linux {}, {}", self.cpu, self.cpus, self.kernel, self.kvm)
    }
}

/// True if the hypervisor leaf of CPUID has TCG's signature. The CPU says so, not an option, so that no measurement on an
/// emulator is mistaken for one of silicon.
pub fn emulated() -> bool {
    let leaf = core::arch::x86_64::__cpuid(0x4000_0000);
    [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat() == *b"TCGTCGTCGTCG"
}
