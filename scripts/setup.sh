# SPDX-License-Identifier: Apache-2.0
# Copyright The Tandem Authors
#
# Sourced by ./run: brings a fresh Debian or Ubuntu to where Tandem builds and runs. Idempotent: what
# is there already is left alone, and each step that does work says so.

node_version=24.21.0
# By devEngines, not packageManager: with that field pnpm looks the version up in the registry at each call.
pnpm_version=$(sed -n 's/.*"name": "pnpm", "version": "\([^"]*\)".*/\1/p' package.json)

say() { printf '\033[2m[setup]\033[0m %s\n' "$*" >&2; }
fail() {
	printf '[setup] %s\n' "$*" >&2
	exit 1
}

# Debian packages that each command needs: build tools and the programs that the tests drive.
packages_build=(gcc binutils make libc6-dev libbpf-dev libelf-dev zlib1g-dev libuv1-dev linux-libc-dev ca-certificates)
packages_run=(iproute2 nftables iptables procps util-linux kmod)
packages_demo=(unbound)
packages_test=(unbound knot bind9-dnsutils bind9-host dnsperf conntrack libc-ares-dev musl-tools python3-dnspython systemd zsh fish dbus-daemon python3-firewall python3-nftables)
packages_kernels=(qemu-system-x86 busybox-static kmod xz-utils zstd debian-archive-keyring)
packages_cluster=(containerd runc containernetworking-plugins conntrack socat ethtool busybox-static openssl prometheus skopeo)
packages_bench=(dnsmasq-base dnsdist unbound)

require_platform() {
	[ "$(id -u)" = 0 ] || fail "needs root: namespaces, BPF and sockets are real here. Try: sudo ./run ${1:-}"
	[ "$(uname -s)" = Linux ] || fail "needs Linux"
	command -v apt-get >/dev/null || fail "needs Debian 12+ or Ubuntu 24.04+ (apt-get is not here)"
	[ -r /sys/kernel/btf/vmlinux ] || fail "the kernel has no BTF (/sys/kernel/btf/vmlinux): CONFIG_DEBUG_INFO_BTF is needed"
}

apt_updated=
apt_update() {
	[ -z "$apt_updated" ] || return 0
	say "apt-get update"
	apt-get update -qq || fail "apt-get update failed: is Debian's archive reachable?"
	apt_updated=1
}

apt_install() {
	local missing=() name
	for name in "$@"; do
		dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
	done
	[ ${#missing[@]} = 0 ] && return
	apt_update
	say "installing ${missing[*]}"
	# Services that a package brings (unbound, knot, dnsdist, prometheus) must not start: the tests run their own.
	local policy=/usr/sbin/policy-rc.d made=
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		made=1
	fi
	local status=0
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || status=$?
	[ -n "$made" ] && rm -f "$policy"
	[ $status = 0 ] || fail "apt-get install ${missing[*]} failed"
}

# The newest clang of those that compile our programs; 14 and older fail on bounded loops.
setup_clang() {
	local version
	for version in 19 18 17 16; do
		command -v "clang-$version" >/dev/null && return
	done
	apt_update
	for version in 19 18 17 16; do
		if apt-cache show "clang-$version" >/dev/null 2>&1; then
			apt_install "clang-$version"
			return
		fi
	done
	fail "no clang 16 to 19 in the archive"
}

# Unpacked: as an installed package it would guard this machine from its next boot on.
setup_firewalld() {
	[ -x .tools/firewalld/usr/sbin/firewalld ] && return
	say "unpacking firewalld to .tools/"
	apt_update
	local directory=.tools/firewalld.new
	rm -rf "$directory" .tools/firewalld
	mkdir -p "$directory"
	(cd "$directory" && apt-get download -qq -o APT::Sandbox::User=root firewalld >/dev/null && dpkg-deb -x firewalld_*.deb .) ||
		fail "apt-get download firewalld failed: is Debian's archive reachable?"
	mv "$directory" .tools/firewalld
}

# Compilers that only the long tier needs: heavy, and any version will do.
setup_compilers() {
	command -v go >/dev/null || apt_install golang-go
	command -v javac >/dev/null || apt_install default-jdk-headless
}

# The compiler of each other architecture that --arch of ./run images names.
setup_cross_compiler() {
	local pair
	for pair in amd64:x86-64-linux-gnu arm64:aarch64-linux-gnu; do
		[ "${pair%%:*}" = "$(dpkg --print-architecture)" ] && continue
		case " $* " in
		*" --arch ${pair%%:*} "* | *" --arch=${pair%%:*} "*) apt_install "gcc-${pair#*:}" "libc6-dev-${pair%%:*}-cross" ;;
		esac
	done
}

node_is_new_enough() {
	command -v node >/dev/null || return 1
	node -e '
		const have = process.versions.node.split(".").map(Number);
		const want = process.argv[1].split(".").map(Number);
		process.exit(have[0] > want[0] || (have[0] === want[0] && have[1] >= want[1]) ? 0 : 1);
	' "$node_version"
}

need_npm() {
	command -v npm >/dev/null || apt_install npm
}

# Images have the Node.js that npm fetches, unless it is in the cache of packages/images/src/machine.ts.
need_npm_for_images() {
	local cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/tandem/images architecture kind of name version hash
	architecture=$(dpkg --print-architecture)
	case " $* " in
	*" --update-lock "*) need_npm ;;
	*" --arch amd64 "* | *" --arch=amd64 "*) architecture=amd64 ;;
	*" --arch arm64 "* | *" --arch=arm64 "*) architecture=arm64 ;;
	esac
	while read -r kind of name version hash; do
		[ "$kind $of" != "node $architecture" ] || [ -e "$cache/$hash" ] || need_npm
	done <packaging/images.lock
}

# Three times at most: npm waits for ever for a connection that it has lost.
npm_install() {
	local try
	for try in 1 2 3; do
		timeout 300 npm install --no-audit --no-fund --ignore-scripts --fetch-timeout=60000 --prefix .tools/npm "$1" >.tools/npm.log 2>&1 && return
		say "npm could not install $1, attempt $try of 3"
	done
	tail -5 .tools/npm.log >&2
	fail "npm could not install $1"
}

setup_node() {
	export PATH="$PWD/.tools/bin:$PATH"
	mkdir -p .tools/bin
	if ! node_is_new_enough; then
		need_npm
		local arch
		case "$(uname -m)" in
		x86_64) arch=x64 ;;
		aarch64) arch=arm64 ;;
		*) fail "no Node for $(uname -m)" ;;
		esac
		say "installing Node $node_version to .tools/"
		# node-linux-ARCH is the file that the npm package "node" fetches in its install script.
		npm_install "node-linux-$arch@$node_version"
		ln -sfn "../npm/node_modules/node-linux-$arch/bin/node" .tools/bin/node
		hash -r
		node_is_new_enough || fail "Node in .tools/ does not run: $(node --version 2>&1)"
	elif [ ! -x .tools/bin/node ]; then
		# The programs find it here when they are started with another PATH, as systemd does.
		ln -sfn "$(readlink -f "$(command -v node)")" .tools/bin/node
	fi
	if [ "$(pnpm --version 2>/dev/null)" != "$pnpm_version" ]; then
		need_npm
		say "installing pnpm $pnpm_version to .tools/"
		npm_install "pnpm@$pnpm_version"
		ln -sfn ../npm/node_modules/.bin/pnpm .tools/bin/pnpm
		hash -r
	fi
}

setup_workspace() {
	if [ ! -e node_modules/.modules.yaml ] || [ pnpm-lock.yaml -nt node_modules/.modules.yaml ]; then
		say "pnpm install"
		pnpm install --frozen-lockfile --reporter=append-only >.tools/pnpm-install.log 2>&1 ||
			{ tail -20 .tools/pnpm-install.log >&2; fail "pnpm install failed"; }
		touch node_modules/.modules.yaml
	fi
}

build_native() {
	local dir
	for dir in "$@"; do
		make -q --no-print-directory -C "$dir" >/dev/null 2>&1 && continue
		say "building $dir"
		make -s --no-print-directory -C "$dir" || fail "building $dir failed"
	done
}

build_typescript() {
	say "building packages"
	pnpm run build >.tools/build.log 2>&1 || { tail -30 .tools/build.log >&2; fail "building packages failed"; }
}

setup_bpffs() {
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf || fail "could not mount bpffs on /sys/fs/bpf"
}

setup() {
	require_platform "$1"
	apt_install "${packages_build[@]}" "${packages_run[@]}"
	case "$1" in
	demo) apt_install "${packages_demo[@]}" ;;
	test | setup)
		apt_install "${packages_test[@]}"
		setup_firewalld
		;;
	bench) apt_install "${packages_bench[@]}" ;;
	cluster) apt_install "${packages_cluster[@]}" ;;
	images) setup_cross_compiler "$@" ;;
	esac
	case "$1" in images | test | cluster | chaos) need_npm_for_images "$@" ;; esac
	if [[ $1 = test && " $* " = *" --full "* ]]; then
		setup_compilers
	fi
	if [[ $1 = test && " $* " = *" --kernels "* ]]; then
		apt_install "${packages_kernels[@]}"
	fi
	if [[ ($1 = test || $1 = chaos) && " $* " = *" --cluster "* ]]; then
		apt_install "${packages_cluster[@]}"
		command -v go >/dev/null || apt_install golang-go
	fi
	if [ "$1" = cluster ]; then
		command -v go >/dev/null || apt_install golang-go
		setup_node
		setup_workspace
		# Only what installs Tandem waits for a build of it; the other commands import the addons.
		case " ${*:2} " in
		*" demo "* | *" trial "* | *" conformance "*) ;;
		*)
			build_native packages/bpf-loader-node packages/dns-sockets
			return
			;;
		esac
	fi
	setup_clang
	setup_node
	setup_workspace
	# At the same time: neither needs the other, and each keeps one CPU busy.
	build_native packages/bpf-loader-node packages/dns-sockets packages/cni-gate packages/pod-programs bpf packages/testing e2e/bench/native &
	local native=$!
	build_typescript
	wait "$native" || exit 1
	setup_bpffs
}
