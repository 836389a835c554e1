#!/bin/busybox sh
# First program of the guest, in the initramfs: mounts the host's root below a writable overlay and
# switches to it. Reports an error as one line on the status port.

bb=/bin/busybox
$bb --install -s /bin
export PATH=/bin

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

# Prints the device of a virtio port: only sysfs has the port's name.
port() {
    for p in /sys/class/virtio-ports/*; do
        [ "$(cat "$p/name" 2>/dev/null)" = "$1" ] && echo "/dev/${p##*/}" && return
    done
}

fail() {
    echo "lab: $*" >/dev/console
    p=$(port lab.status)
    [ -n "$p" ] && echo "fail $*" >"$p" && sleep 60
    poweroff -f
}

# The controllers of the disk with two paths get their driver from the test that needs them: the driver
# numbers controllers in the order in which it happens to find them.
for controller in 1c 1d; do
    echo none >"/sys/bus/pci/devices/0000:00:$controller.0/driver_override" ||
        fail "the controllers of the NVMe disk with two paths are missing"
done

while read -r module parameters; do
    # shellcheck disable=SC2086 # one word per parameter
    insmod "/modules/$module" $parameters || fail "module $module cannot be loaded"
done </modules/order

mkdir -p /host /top /new
# The host's files are cached: their changes do not matter to a running guest.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose hostroot /host ||
    fail "the host's root file system cannot be mounted"
mount -t tmpfs -o mode=755 top /top && mkdir /top/upper /top/work &&
    mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay /new ||
    fail "the overlay over the host's root cannot be mounted"
for folder in dev proc sys run lab tmp root lib/modules; do
    mkdir -p "/new/$folder"
done
mount -t tmpfs -o mode=755 run /new/run
mkdir -p /new/run/lab
cp /bin/busybox /lab/* /new/run/lab/ || fail "the laboratory's files cannot be copied"
# Not cached: the host must see writes at once. The share contains the image of the NVMe disk.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none lab /new/lab ||
    fail "the share for results cannot be mounted"
for folder in dev proc sys; do
    mount -o move "/$folder" "/new/$folder"
done
exec switch_root /new /run/lab/busybox sh /run/lab/stage.sh
