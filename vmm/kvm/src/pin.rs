//! The CPUs that this process may use, and pinning of threads.

/// The CPUs of the calling thread's affinity mask, ascending (sched_getaffinity(2)).
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t is a bit array; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a local variable of the given size.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    let count = if result == 0 { libc::CPU_SETSIZE as usize } else { 0 };
    // SAFETY: `cpu` is below CPU_SETSIZE.
    (0..count).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Pins the calling thread to one CPU (sched_setaffinity(2)). Returns false if the kernel refuses.
pub fn pin(cpu: usize) -> bool {
    // SAFETY: see `allowed_cpus`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` comes from `allowed_cpus`, which yields only numbers below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is a local variable of the given size.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0 }
}
