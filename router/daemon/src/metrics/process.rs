//! What the kernel says about this process.

use std::fs;

/// Resident memory, bytes; 0 where it cannot be read.
pub(super) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Datagrams the kernel has dropped at full receive buffers of the sockets with these inodes.
pub(crate) fn udp_drops(inodes: &[u64]) -> u64 {
    let tables = ["udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/self/net/{name}")));
    tables.iter().flatten().map(|table| drops(table, inodes)).sum()
}

/// `inode` and `drops` are the tenth and the last column (proc(5)).
fn drops(table: &str, inodes: &[u64]) -> u64 {
    let of_line = |line: &str| {
        let inode: u64 = line.split_whitespace().nth(9)?.parse().ok()?;
        let drops: u64 = line.split_whitespace().last()?.parse().ok()?;
        inodes.contains(&inode).then_some(drops)
    };
    table.lines().skip(1).filter_map(of_line).fold(0, u64::saturating_add)
}

/// CPU time of all threads, seconds; 0 where it cannot be read.
pub(super) fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold blanks: fields are counted from behind it (proc(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut ticks =
        fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    // Linux has told 100 ticks a second to user space on every architecture since 2.4.
    (ticks.next().unwrap_or(0.0) + ticks.next().unwrap_or(0.0)) / 100.0
}

/// Open file descriptors; 0 where they cannot be counted.
pub(super) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| u64::try_from(entries.count()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_ones_own_sockets_count() {
        let line = |inode: u32, drops: u32| {
            let (address, counts) =
                ("0100007F:13C4 00000000:0000", "00000000:00000000 00:00000000");
            format!("  1: {address} 07 {counts} 00000000 0 0 {inode} 2 0000000000000000 {drops}\n")
        };
        let head = "  sl  local_address rem_address st tx_queue rx_queue tr tm->when ... drops\n";
        let table = [head.to_owned(), line(77, 5), line(78, 9), line(79, 11)].concat();
        let table = table.as_str();
        assert_eq!(drops(table, &[77, 78]), 14);
        assert_eq!(drops(table, &[]), 0);
        assert_eq!(drops("", &[77]), 0);
    }

    #[test]
    fn the_kernel_counts_what_finds_no_room() {
        use std::net::UdpSocket;
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::MetadataExt as _;
        let full = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = format!("/proc/self/fd/{}", full.as_raw_fd());
        let inode = std::fs::metadata(fd).unwrap().ino();
        assert_eq!(udp_drops(&[inode]), 0);
        for _ in 0..4_000 {
            peer.send_to(&[0; 1_400], full.local_addr().unwrap()).unwrap();
        }
        assert!(udp_drops(&[inode]) > 0);
    }
}
