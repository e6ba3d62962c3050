/* SPDX-License-Identifier: Apache-2.0 */
/* template_guest.c - what guests of templates do: shell programs for the guest agent. They need guest-init of the images that are built
 * here, which does what the disk "cidata" says, once for each instance-id. */
#include "node/template.h"

/* It is as if nobody had looked at the disk with what it is told, as an instance finds another one there; whoever asks people to log in
 * waits at its prompt; and what an instance will need is in memory. */
const char template_settle[] =
	"exec </dev/null >/dev/null 2>&1\n"
	"[ -x /usr/local/sbin/guest-init ] && [ ! -e /usr/bin/cloud-init ] || exit 9\n"
	"systemctl is-system-running --wait\n"
	"rm -f /var/lib/systemd/random-seed\n"
	"perl -e 1; flock /run/viv-renew true; ls -d /etc/ssh /sys/bus/virtio/drivers/virtio_net; mount; systemctl is-active serial-getty@ttyS0; sleep 0.1\n"
	"guest-init early\n"
	"umount /run/cidata\n"
	"for d in /dev/vd?; do [ $d = /dev/vda ] || blockdev --flushbufs $d; done\n"
	"sync\n"
	"exit 0\n";

/* Time and randomness first, as the rest is made of them. Kernels before 5.18 do not notice that they are copies: the generator is
 * stirred by hand, and takes it at once (random(4)). Each program that is started is time that somebody waits for the console, so there are
 * few. What asks people to log in has waited all the time, and need not be started anew to show another name. The network card has
 * another address, which its driver sees when it begins anew; its cable is pulled for two seconds, so that can come a little
 * later, with those who know this machine by its identity; what its log has of the template's boot goes. A daemon that has been killed meanwhile is followed
 * by one that does all of this again: the second waits for the first. */
const char template_renew[] =
	"exec 2>&1 9>/run/viv-renew\n"
	"set -e\n"
	"flock 9\n"
	"perl -e 'binmode STDIN; read(STDIN, $r, 64) == 64 or exit 1; $ARGV[0] =~ /^(\\d+)\\.(\\d+)$/ or exit 1;\n"
	"syscall(227, 0, pack(\"qq\", $1, $2)) == 0 or exit 1; open(F, \">\", \"/dev/urandom\") or exit 1;\n"
	"ioctl(F, 0x40085203, pack(\"iia64\", 512, 64, $r)) or exit 1; ioctl(F, 0x5207, 0); exit 0' \"$1\"\n"
	"IFS=- read a b c d e </proc/sys/kernel/random/uuid\n"
	"echo $a$b$c$d$e >/etc/machine-id\n"
	"[ -L /var/lib/dbus/machine-id ] || [ ! -e /var/lib/dbus/machine-id ] || echo $a$b$c$d$e >/var/lib/dbus/machine-id\n"
	"keys() { cat /etc/ssh/ssh_host_*.pub 2>/dev/null || true; }\n"
	"old=$(keys)\n"
	"guest-init early\n"
	"if [ \"$old\" ]; then\n"
	"	[ \"$old\" != \"$(keys)\" ] || { rm -f /etc/ssh/ssh_host_*; ssh-keygen -qA; }\n"
	"	systemctl --no-block try-restart ssh\n"
	"fi\n"
	"(\n"
	"	sleep 0.7\n"
	"	for d in /sys/bus/virtio/drivers/virtio_net/virtio*; do\n"
	"		[ -e \"$d\" ] || continue\n"
	"		echo ${d##*/} >/sys/bus/virtio/drivers/virtio_net/unbind\n"
	"		echo ${d##*/} >/sys/bus/virtio/drivers/virtio_net/bind\n"
	"	done\n"
	"	rm -rf /run/log/journal/* /var/log/journal/*\n"
	"	systemctl --no-block restart systemd-networkd systemd-journald\n"
	") </dev/null >/dev/null 2>&1 9>&- &\n"
	". /etc/os-release\n"
	"read -r host </etc/hostname\n"
	"printf '\\r\\n%s %s ttyS0\\r\\n\\r\\n%s login: ' \"$PRETTY_NAME\" \"$host\" \"$host\" >/dev/ttyS0 || true\n"
	"exit 0\n";
