use super::*;

fn disk(name: &str, model: &str) -> BottomDisk {
    BottomDisk { name: name.to_owned(), model: model.to_owned() }
}

fn reason(name: &str, model: &str) -> Option<String> {
    not_a_test_disk(&disk(name, model))
}

#[test]
fn test_disks_are_recognized() {
    for (name, model) in [("sdb", "scsi_debug"), ("nvme0n1", "QEMU NVMe Ctrl"), ("loop3", "")] {
        assert_eq!(reason(name, model), None, "{name}");
    }
}

#[test]
fn other_disks_are_refused_with_the_reason() {
    assert_eq!(reason("sda", "ST4000NM").unwrap(), "its model is ST4000NM");
    assert_eq!(reason("vda", "").unwrap(), "it has no model name");
    assert!(reason("loopback", "").is_some());
    // One other disk is enough to refuse a stack.
    assert_eq!(
        first_other_disk(&[disk("sdb", "scsi_debug"), disk("sda", "ST4000NM")]),
        Some(("sda".to_owned(), "its model is ST4000NM".to_owned()))
    );
    assert_eq!(first_other_disk(&[disk("sdb", "scsi_debug"), disk("loop3", "")]), None);
}

#[test]
fn a_regular_file_is_no_device() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Claim::new(file.path(), 4096), Err(WorkloadError::NotABlockDevice(_))));
}
