# SPDX-License-Identifier: Apache-2.0
# apt-aside.sh - for scripts to source: apt with package lists, cache and sources of its own, so that
# other suites, and source packages, are read without a change to the machine. Needs no root.
# shellcheck shell=sh

# apt_aside DIR SUITE... - set up in DIR, which the caller removes; then call apt_ in place of apt-get,
# apt_cache in place of apt-cache. The mirror is the first Debian mirror that apt itself knows. With apt_arch set
# before, packages are of that architecture.
apt_arch=${apt_arch:-$(dpkg --print-architecture)}

apt_aside() {
	apt_dir=$1
	shift
	mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/sources"
	apt_uri=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' 2>/dev/null |
		awk '$2 ~ /^bookworm$/ { print $1; exit }')
	if [ -z "$apt_uri" ]; then
		echo "${0##*/}: apt knows no mirror of Debian 12; run 'apt-get update' or add one to its sources" >&2
		return 1
	fi
	apt_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	for apt_suite; do
		echo "deb [arch=$apt_arch signed-by=$apt_keyring] $apt_uri $apt_suite main"
		echo "deb-src [signed-by=$apt_keyring] $apt_uri $apt_suite main"
	done >"$apt_dir/sources/debian.list"
	if ! apt_ update >"$apt_dir/log" 2>&1; then
		cat "$apt_dir/log" >&2
		echo "${0##*/}: cannot read the package lists of '$*'" >&2
		return 1
	fi
}

apt_() {
	apt-get -q -y -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt_dir/sources" \
		-o Dir::State::lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" \
		-o APT::Architecture="$apt_arch" -o APT::Architectures::="$apt_arch" \
		-o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
}

apt_cache() {
	apt-cache -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt_dir/sources" \
		-o APT::Architecture="$apt_arch" -o APT::Architectures::="$apt_arch" \
		-o Dir::State::lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" "$@"
}
