//! The kernel memory of eBPF maps, which no process's resident memory contains.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};

/// Bytes that the kernel has allocated for each map. Those of per-CPU maps are for every possible CPU; kernels of 5.11
/// to 6.3 state less (`bpf_map_memory_footprint`, kernel/bpf/syscall.c).
pub(crate) fn map_bytes(ebpf: &Ebpf) -> BTreeMap<String, u64> {
    let bytes_of = |(name, map): (&str, &Map)| {
        let fd = data(map)?.fd().as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        Some((name.to_owned(), memlock(&info)?))
    };
    ebpf.maps().filter_map(bytes_of).collect()
}

/// The kinds of maps that the programs use.
const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::CgroupArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerfEventArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// The line `memlock` (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c, 5.10 to 7.3).
fn memlock(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_that_of_its_line() {
        let info = "pos:\t0\nmap_type:\t5\nmax_entries:\t16\nmemlock:\t4096\nmap_id:\t4\n";
        assert_eq!(memlock(info), Some(4096));
        assert_eq!(memlock("map_type:\t5\nmemlock:\tx\n"), None);
    }
}
