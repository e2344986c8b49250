//! QEMU's arguments, machine numbers, overlays with a fake tool.

use std::os::unix::fs::PermissionsExt as _;

use base_kv::Memory;
use base_prims::{Namespace, Version};
use rt_bundle::{Binary, Wrap};
use wire_runtime::bundle::{ComponentId, KIND_ROFL, TdxResources, TeeKind};

use super::*;
use crate::{api::NoHandler, attest::NoPolicies, pcs::tests::quote_service};

fn config(dir: &Path, change: impl FnOnce(&mut TdxManifest)) -> ComponentConfig {
    std::fs::write(dir.join("e"), b"\x7fELF rest").expect("written");
    let wrap = Wrap {
        runtime_id: Namespace::default(),
        name: "test".into(),
        version: Some(Version::new(1, 0, 0)),
        binary: Binary::Elf(dir.join("e")),
    };
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    let mut config = ComponentConfig::new(bundle, ComponentId::Ronl, Arc::new(NoHandler)).expect("a component");
    let mut tdx = TdxManifest {
        firmware: "fw.bin".into(),
        resources: TdxResources { memory: 512, cpus: 2, ..TdxResources::default() },
        ..TdxManifest::default()
    };
    change(&mut tdx);
    config.component.tdx = Some(tdx);
    config.tee = TeeKind::TDX;
    config
}

fn tdx(qemu: &Path, img: &Path) -> Tdx {
    let attester = Attester {
        quotes: quote_service("http://127.0.0.1:9", 0, Arc::new(Memory::default())),
        policies: Arc::new(NoPolicies),
        endorser: None,
        ias: Vec::new(),
    };
    let cids = Arc::new(CidPool::new(100, 2).expect("a range"));
    Tdx { qemu: qemu.into(), qemu_img: img.into(), ..Tdx::new(cids, attester, HostInfo::default()) }
}

fn line(arguments: &[OsString]) -> String {
    arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_smallest_machine() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().display();
    let line = line(&arguments(&config(dir.path(), |_| {}), 123, None).expect("arguments"));
    let zeros = "0".repeat(64);
    assert_eq!(
        line,
        format!(
            "-accel kvm -m 512 -smp 2 -name oasis-{zeros}-ronl -cpu host -machine \
             q35,kernel-irqchip=split,confidential-guest-support=tdx,hpet=off -bios {at}/fw.bin -nographic -nodefaults \
             -serial stdio -device virtio-serial,max_ports=1 -object \
             {{\"qom-type\":\"tdx-guest\",\"id\":\"tdx\",\"quote-generation-socket\":{{\"type\":\"vsock\",\"cid\":\"2\",\"port\":\"4050\"}}}} \
             -device vhost-vsock-pci,guest-cid=123 -netdev user,id=net0,restrict=y -device virtio-net-pci,netdev=net0"
        )
    );
}

#[test]
fn kernel_second_stage_and_network() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = config(dir.path(), |tdx| {
        tdx.kernel = "k".into();
        tdx.initrd = "i".into();
        tdx.stage2_image = "s".into();
        tdx.extra_kernel_options = vec!["a=b".into(), "c".into()];
    });
    config.component_id = ComponentId::Rofl("abc".into());
    config.component.kind = KIND_ROFL.into();
    config.incoming = vec![
        PortForward { src_port: 80, ..PortForward::default() },
        PortForward { ip: "10.0.0.1".into(), protocol: "udp".into(), src_port: 53, dst_port: 5353 },
    ];
    let stage2 = Stage2 { image: "/x,y/s".into(), format: "raw".into(), persistent: false };
    let line = line(&arguments(&config, 5, Some(&stage2)).expect("arguments"));
    let at = dir.path().display();
    assert!(
        line.contains(&format!(
            " -kernel {at}/k -initrd {at}/i -drive format=raw,file=/x,,y/s,if=none,id=drive0,snapshot=on \
         -device virtio-blk-pci,drive=drive0 -append a=b c -netdev \
         user,id=net0,hostfwd=tcp::80-:80,hostfwd=udp:10.0.0.1:53-:5353 -device virtio-net-pci,netdev=net0"
        )),
        "{line}"
    );
    for (forward, error) in [
        (PortForward::default(), "source port"),
        (PortForward { ip: "::1".into(), src_port: 1, ..PortForward::default() }, "IPv6"),
        (PortForward { ip: "x".into(), src_port: 1, ..PortForward::default() }, "malformed"),
        (PortForward { protocol: "icmp".into(), src_port: 1, ..PortForward::default() }, "not supported"),
    ] {
        assert!(forward_option(&forward).expect_err("refused").contains(error));
    }
}

#[test]
fn machine_numbers_are_unique_and_bounded() {
    let pool = CidPool::new(10, 2).expect("a range");
    assert_eq!((pool.allocate(), pool.allocate()), (Ok(10), Ok(11)));
    assert!(pool.allocate().is_err());
    assert!(pool.release(10) && !pool.release(10));
    assert_eq!(pool.allocate(), Ok(10));
    for (start, count) in [(9, 1), (10, MAX_CID_COUNT + 1), (u32::MAX, 2)] {
        assert!(CidPool::new(start, count).is_err(), "{start} {count}");
    }
    assert!(CidPool::new(DEFAULT_CID_START, DEFAULT_CID_COUNT).is_ok());
}

#[tokio::test]
async fn overlays_are_made_once_and_rebased_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let tool = dir.path().join("qemu-img");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\n[ \"$1\" = info ] && echo '{{\"virtual-size\": 4096}}'\nexit 0\n",
        log.display()
    );
    std::fs::write(&tool, script).expect("written");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o700)).expect("executable");
    let machine = Machine { shared: tdx(Path::new("/nowhere/qemu"), &tool), cid: 100 };
    let mut config = config(dir.path(), |tdx| {
        tdx.kernel = "k".into();
        tdx.stage2_image = "s".into();
        tdx.stage2_format = "qcow2".into();
        tdx.stage2_persist = true;
    });
    let error = machine.stage2(&config).await.map(drop).expect_err("no volume").to_string();
    assert!(error.contains("volume for 's' not attached"), "{error}");
    let volume = dir.path().join("volume");
    config.volumes.insert("s".into(), volume.clone());
    let stage2 = machine.stage2(&config).await.expect("made").expect("there");
    assert!(stage2.persistent && stage2.image == volume && stage2.format == "qcow2");
    std::fs::write(&volume, "").expect("written");
    machine.stage2(&config).await.expect("rebased");
    let (image, volume) = (dir.path().join("s"), volume.display());
    let image = image.display();
    let expected = format!(
        "create -f qcow2 -b {image} -F qcow2 {volume}\ninfo --output json {image}\n\
         rebase -u -f qcow2 -b {image} -F qcow2 {volume}\nresize {volume} 4096\n"
    );
    assert_eq!(std::fs::read_to_string(&log).expect("there"), expected);
}

#[tokio::test]
async fn a_machine_without_qemu_or_tdx_fails_with_its_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let shared = tdx(Path::new("/nowhere/qemu"), Path::new("/nowhere/img"));
    let machine = Machine { shared: shared.clone(), cid: 100 };
    let error = machine.launch(&config(dir.path(), |_| {})).await.map(drop).expect_err("no QEMU").to_string();
    assert!(error.contains("/nowhere/qemu"), "{error}");
    // QEMU that ends at once is noticed.
    let ends = Machine { shared: tdx(Path::new("/bin/false"), Path::new("/nowhere/img")), cid: 100 };
    let error = ends.launch(&config(dir.path(), |_| {})).await.map(drop).expect_err("ends").to_string();
    assert!(error.contains("exit code 1"), "{error}");
    let mut plain = config(dir.path(), |_| {});
    plain.component.tdx = None;
    assert!(shared.provision(plain).is_err());
    // A number is free again when its host is stopped.
    let hosts: Vec<_> = (0..2).map(|_| shared.provision(config(dir.path(), |_| {})).expect("provisions")).collect();
    assert!(shared.provision(config(dir.path(), |_| {})).is_err());
    hosts[0].stop(Instant::now()).await.expect("stops");
    assert!(shared.provision(config(dir.path(), |_| {})).is_ok());
}
