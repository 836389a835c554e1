//! Guards: the checksums of protection information.

use crc::{CRC_16_T10_DIF, CRC_64_NVME, Crc, Table};

/// Fast enough: some hundred MiB a second, for some thousand intervals.
const T10: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_T10_DIF);
const NVME: Crc<u64, Table<1>> = Crc::<u64, Table<1>>::new(&CRC_64_NVME);

/// A format of protection information, by its guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// CRC-16 of T10 (SBC-3, 4.22.4).
    Crc16,
    /// The checksum of the Internet protocol (RFC 1071), between the host and its adapter.
    IpChecksum,
    /// CRC-64 of NVMe (NVM Command Set Specification 1.0, 5.2.1.3.4), in tuples of 16 bytes.
    Crc64,
}

impl Guard {
    /// The guard of a format as the kernel names it (`blk_integrity_profile_name`, block/blk-integrity.c, and
    /// the profiles of block/t10-pi.c, 5.10 to 7.3).
    pub fn of_format(format: &str) -> Option<Self> {
        match format.rsplit('-').next()? {
            "CRC" => Some(Self::Crc16),
            "IP" => Some(Self::IpChecksum),
            "CRC64" => Some(Self::Crc64),
            _ => None,
        }
    }

    /// Bytes of a tuple.
    pub const fn tuple_bytes(self) -> usize {
        match self {
            Self::Crc16 | Self::IpChecksum => 8,
            Self::Crc64 => 16,
        }
    }

    /// The guard of data.
    pub fn of_data(self, data: &[u8]) -> u64 {
        match self {
            Self::Crc16 => T10.checksum(data).into(),
            Self::IpChecksum => ip_checksum(data).into(),
            Self::Crc64 => NVME.checksum(data),
        }
    }

    /// The guard that a tuple holds: its first bytes, big-endian. `None` if the tuple is too short.
    pub fn of_tuple(self, tuple: &[u8]) -> Option<u64> {
        match self {
            Self::Crc16 | Self::IpChecksum => {
                tuple.first_chunk().map(|guard| u16::from_be_bytes(*guard).into())
            }
            Self::Crc64 => tuple.first_chunk().map(|guard| u64::from_be_bytes(*guard)),
        }
    }

    /// The reference tag of a tuple: 32 bits, or 48 of the extended format (`struct t10_pi_tuple` and `struct
    /// crc64_pi_tuple`, include/linux/t10-pi.h, 5.18 to 7.3).
    pub fn reference(self, tuple: &[u8]) -> Option<u64> {
        match self {
            Self::Crc16 | Self::IpChecksum => {
                tuple.get(4..)?.first_chunk().map(|tag| u32::from_be_bytes(*tag).into())
            }
            Self::Crc64 => {
                let tag: &[u8; 6] = tuple.get(10..)?.first_chunk()?;
                Some(tag.iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte)))
            }
        }
    }

    /// Bits of the reference tag.
    pub const fn reference_bits(self) -> u32 {
        match self {
            Self::Crc16 | Self::IpChecksum => 32,
            Self::Crc64 => 48,
        }
    }

    /// The only bit of `bytes` bytes of data whose change turns one guard into another, as byte and bit. `None`
    /// if there is none, or if several would do.
    pub fn flipped_bit(self, bytes: usize, stored: u64, computed: u64) -> Option<(usize, u8)> {
        let syndrome = stored ^ computed;
        let mut found = None;
        for (distance, of_bit) in self.syndromes()?.take(bytes.checked_mul(8)?).enumerate() {
            if of_bit == syndrome {
                if found.is_some() {
                    return None;
                }
                found = Some(distance);
            }
        }
        let distance = found?;
        // CRC-16 takes the most significant bit of a byte first, CRC-64 the least significant.
        let within = u8::try_from(distance % 8).ok()?;
        let bit = if self == Self::Crc16 { within } else { 7 - within };
        Some((bytes - 1 - distance / 8, bit))
    }

    /// What the change of one bit does to the guard, from the last bit of the data to the first. `None` for a
    /// checksum that does not tell places apart.
    fn syndromes(self) -> Option<impl Iterator<Item = u64>> {
        let step: fn(u64) -> u64 = match self {
            Self::Crc16 => |crc| {
                let shifted = (crc << 1) & 0xffff;
                if crc & 0x8000 == 0 { shifted } else { shifted ^ u64::from(CRC_16_T10_DIF.poly) }
            },
            Self::Crc64 => |crc| {
                let shifted = crc >> 1;
                if crc & 1 == 0 { shifted } else { shifted ^ CRC_64_NVME.poly.reverse_bits() }
            },
            Self::IpChecksum => return None,
        };
        let last = if self == Self::Crc16 { 0x8000 } else { 1 };
        Some(std::iter::successors(Some(step(last)), move |crc| Some(step(*crc))))
    }
}

/// The checksum of RFC 1071. An odd last byte is padded with zero.
fn ip_checksum(data: &[u8]) -> u16 {
    let (words, rest) = data.as_chunks::<2>();
    let sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    let mut sum = sum + rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_guards_are_the_published_ones() {
        // The check values of the catalogue of CRCs.
        assert_eq!(Guard::Crc16.of_data(b"123456789"), 0xd0db);
        assert_eq!(Guard::Crc64.of_data(b"123456789"), 0xae8b_1486_0a79_9888);
        // A block of zeros, as `dmesg` shows it: the CRC is 0, the checksum all ones.
        assert_eq!(Guard::Crc16.of_data(&[0; 512]), 0);
        assert_eq!(Guard::IpChecksum.of_data(&[0; 512]), 0xffff);
        // The NVM Command Set Specification 1.0, figure 111: 4,096 bytes of zeros and of ones.
        assert_eq!(Guard::Crc64.of_data(&[0; 4096]), 0x6482_d367_eb22_b64e);
        assert_eq!(Guard::Crc64.of_data(&[0xff; 4096]), 0xc0dd_ba73_02ec_a3ac);
        // RFC 1071, section 3.
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Guard::IpChecksum.of_data(&example), 0x220d);
        assert_eq!(Guard::IpChecksum.of_data(&[0x12]), u64::from(!0x1200_u16));
    }

    #[test]
    fn a_tuple_is_read_as_the_kernel_lays_it_out() {
        let t10 = [0xd0, 0xdb, 0xab, 0xcd, 0, 0, 1, 2];
        assert_eq!(Guard::Crc16.of_tuple(&t10), Some(0xd0db));
        assert_eq!(Guard::Crc16.reference(&t10), Some(0x102));
        let extended = [1, 2, 3, 4, 5, 6, 7, 8, 0xab, 0xcd, 0, 0, 0, 1, 2, 3];
        assert_eq!(Guard::Crc64.of_tuple(&extended), Some(0x0102_0304_0506_0708));
        assert_eq!(Guard::Crc64.reference(&extended), Some(0x0001_0203));
        assert_eq!(Guard::Crc64.of_tuple(&t10[..7]), None);
        assert_eq!(Guard::Crc16.reference(&t10[..6]), None);
    }

    #[test]
    fn formats_are_those_of_the_kernel() {
        for (format, guard) in [
            ("T10-DIF-TYPE1-CRC", Some(Guard::Crc16)),
            ("T10-DIF-TYPE3-IP", Some(Guard::IpChecksum)),
            ("EXT-DIF-TYPE1-CRC64", Some(Guard::Crc64)),
            ("nop", None),
            ("", None),
        ] {
            assert_eq!(Guard::of_format(format), guard, "{format}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(seed: [u8; 32], at in 0_usize..4096, bit in 0_u8..8) {
            let mut data: Vec<u8> = seed.iter().copied().cycle().take(4096).collect();
            // CRC-16 tells every bit of 512 bytes apart, CRC-64 every bit of 4 KiB.
            for (guard, bytes) in [(Guard::Crc16, 512), (Guard::Crc64, 4096)] {
                let at = at % bytes;
                let stored = guard.of_data(&data[..bytes]);
                data[at] ^= 1 << bit;
                let computed = guard.of_data(&data[..bytes]);
                prop_assert_eq!(guard.flipped_bit(bytes, stored, computed), Some((at, bit)));
                data[at] ^= 1 << bit;
            }
            prop_assert_eq!(Guard::IpChecksum.flipped_bit(512, 1, 2), None);
        }
    }
}
