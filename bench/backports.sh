# SPDX-License-Identifier: Apache-2.0
# backports.sh - for scripts to source: programs of Debian backports, unpacked beside the machine's own. Nothing is
# installed. Needs no root.
# shellcheck shell=sh

. "$(dirname "$(readlink -f "$0")")/../scripts/apt-aside.sh"

# backports_unpack DIR PACKAGE... - the newest of them into DIR, with those of what they depend on that this machine lacks.
backports_unpack() {
	backports_dir=$1
	shift
	backports_work=$(mktemp -d)
	trap 'rm -rf "$backports_work"' EXIT
	apt_aside "$backports_work" bookworm bookworm-backports
	# --reinstall: what is installed already is wanted all the same.
	if ! apt_ --download-only --no-install-recommends --reinstall -t bookworm-backports install "$@" >"$backports_work/log" 2>&1; then
		cat "$backports_work/log" >&2
		echo "${0##*/}: cannot download $1 of 'bookworm-backports'" >&2
		exit 1
	fi
	mkdir -p "$backports_dir"
	for deb in "$backports_work"/cache/archives/*.deb; do dpkg -x "$deb" "$backports_dir"; done
}

# backports_wrap NAME PROGRAM [ARGUMENTS] - DIR/NAME starts DIR/PROGRAM with the libraries that were unpacked, and with
# ARGUMENTS (a shell's words; $dir is DIR) before its own; it must tell its version.
backports_wrap() {
	cat >"$backports_dir/$1.new" <<-RUN
		#!/bin/sh
		dir=\${0%/*}
		export LD_LIBRARY_PATH="\$dir/usr/lib/x86_64-linux-gnu" QEMU_MODULE_DIR="\$dir/usr/lib/x86_64-linux-gnu/qemu"
		export PATH="\$PATH:\$(realpath "\$dir")/usr/bin"
		exec "\$dir/$2" ${3-} "\$@"
	RUN
	chmod 755 "$backports_dir/$1.new"
	if ! "$backports_dir/$1.new" --version >"$backports_work/log" 2>&1; then
		cat "$backports_work/log" >&2
		echo "${0##*/}: what was unpacked does not run" >&2
		exit 1
	fi
	mv "$backports_dir/$1.new" "$backports_dir/$1"
}
