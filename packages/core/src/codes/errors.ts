// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Errors: the codes at the beginning of error texts in logs, and on errors that the packages throw. */

import type { CodeTable } from './code.ts';

const errorRows = {
  TANDEM_UNEXPECTED: {
    severity: 'error',
    meaning: 'an error of Node.js or a library that has no code of Tandem; its stack follows',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_BUG: {
    severity: 'error',
    meaning:
      'an assertion of Tandem failed: the process ends with exit code 70 and is started again',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_SYSTEM: {
    severity: 'error',
    meaning: 'a system call failed; `errno` and `syscall` beside the code name the cause',
    fix: 'act on the errno: permissions, space, or an address that is in use',
  },
  TANDEM_COMMAND: {
    severity: 'error',
    meaning: 'a program that the agent runs (nft, iptables-save) failed or is missing',
    fix: 'read its message in the error; install the program where it is missing',
  },
  TANDEM_CLI_USAGE: {
    severity: 'error',
    meaning: 'the command line or the configuration file is wrong; nothing was done',
    fix: 'correct what the message names; `--help` lists the options',
  },
  TANDEM_CLI_UNREACHABLE: {
    severity: 'error',
    meaning: 'neither process of the node answers on its admin socket',
    fix: 'run `tandem status`, which also works without them, as root with the runDir of the processes',
  },
  TANDEM_CLI_KUBECTL: {
    severity: 'error',
    meaning: 'kubectl could not be run, or failed',
    fix: 'read the message of kubectl; check its context and the permission to create pods/exec',
  },
  TANDEM_SOCKET_IN_USE: {
    severity: 'error',
    meaning: 'another process listens on the unix socket',
    fix: 'stop the other process, or give this one another runDir',
  },
  TANDEM_SOCKET_PATH: {
    severity: 'error',
    meaning:
      'the unix socket cannot be made: the path is taken by a file, or another user may write its directory',
    fix: 'remove the file, or give the directory to root or to the uid of the process, with mode 750 or less',
  },
  TANDEM_START_TIMEOUT: {
    severity: 'error',
    meaning: 'a component did not start in time',
    fix: 'read the log lines before it; check the load of the node',
  },
  TANDEM_STOP_TIMEOUT: {
    severity: 'error',
    meaning: 'a component did not stop in time: the process ends with exit code 3',
    fix: 'none if it happens once; raise drainTimeout if queries in flight take longer',
  },
  TANDEM_RPC: {
    severity: 'error',
    meaning:
      'a gRPC call between processes of the node failed; `status` beside the code names the cause',
    fix: 'check that the process with that socket runs; the caller tries again by itself',
  },
  TANDEM_SNAPSHOT_WRITE: {
    severity: 'error',
    meaning: 'the policy snapshot could not be written',
    fix: 'free space on the disk, or make stateDir writable',
  },
  TANDEM_POLICY_SNAPSHOT: {
    severity: 'error',
    meaning:
      'a policy snapshot is damaged, of an unknown version or too large: the last valid policy stays in force',
    fix: 'none if the agent runs: it writes a new snapshot. Upgrade the agent first, and downgrade it first',
  },
  TANDEM_SETTINGS: {
    severity: 'error',
    meaning: 'port, mark or proxyUid differ from those of the loaded programs (`settings-differ`)',
    fix: 'give both processes the same settings, and restart the agent first, then the DNS proxy',
  },
  TANDEM_WORKER_EXIT: {
    severity: 'error',
    meaning: 'the DNS worker thread ended: the process ends with exit code 70 and is started again',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_PRIVILEGES: {
    severity: 'error',
    meaning: 'the DNS proxy lacks a capability or may not read its own files as proxyUid',
    fix: 'grant the capability that the message names; install Tandem where every user may read it',
  },
  TANDEM_CLOCK: {
    severity: 'error',
    meaning:
      'the process is in a time namespace, so that its clocks are not those of the node: it does not start, and nothing was changed',
    fix: 'start it without the time namespace (unshare --time, lxc.time.offset)',
  },
  TANDEM_MARK: {
    severity: 'error',
    meaning:
      'no bit of the packet mark is free, or other rules use the configured one: the agent does not start',
    fix: 'free the bit in the rules that the message names, or set mark to auto or to a free bit for both processes',
  },
  TANDEM_DATAPATH: {
    severity: 'error',
    meaning:
      'the programs and maps of this version cannot be loaded or opened; pinned programs enforce the last policy',
    fix: 'fix the cause that the message names; `tandem doctor --preflight` checks the kernel',
  },
  TANDEM_NOTHING_ENFORCED: {
    severity: 'critical',
    meaning:
      'the programs and maps cannot be loaded or opened, and no policy is enforced on the node: the agent ends with exit code 4',
    fix: 'fix the cause that the message names; `tandem doctor --preflight` checks the kernel',
  },
  TANDEM_DATAPATH_VERSION: {
    severity: 'error',
    meaning: 'the pins are of a version that this one cannot migrate; nothing was changed',
    fix: 'run the version that wrote them, or one that can migrate from it; a reboot of the node removes the pins',
  },
  TANDEM_PINS_REPLACED: {
    severity: 'error',
    meaning:
      'the pins that this process serves with were removed and an agent made new ones: the process ends, to start with the new pins',
    fix: 'none; find out which program removes files in bpffsDir',
  },
  TANDEM_REDIRECT: {
    severity: 'error',
    meaning: 'another program changed the nft table of redirects while the agent wrote it',
    fix: 'find the program that changes table inet tandem_redirect; the agent writes it again',
  },
  TANDEM_RUNNING: {
    severity: 'error',
    meaning: '`tandem-agent remove` found a running process of Tandem and removed nothing',
    fix: 'stop both processes, and remove what starts them again (systemd unit, DaemonSet)',
  },
  TANDEM_STOPPING: {
    severity: 'error',
    meaning: 'the agent stops before the programs of all pods are attached; the next agent goes on',
    fix: 'start the next agent: at the first start of a node nothing is enforced before',
  },
  TANDEM_NETLINK: {
    severity: 'error',
    meaning: 'the kernel refused a netlink request; `errno` beside the code names the cause',
    fix: 'act on the errno: EPERM wants CAP_NET_ADMIN, ENODEV an interface that exists',
  },
  TANDEM_BPF_OPEN: {
    severity: 'error',
    meaning: 'libbpf cannot open the object file or the BTF of the kernel',
    fix: 'check bpfObject and /sys/kernel/btf/vmlinux',
  },
  TANDEM_BPF_LOAD: {
    severity: 'error',
    meaning: 'the verifier or libbpf refused a program; its log is in the error',
    fix: 'boot a kernel that `tandem doctor --preflight` accepts; on such a kernel report the log',
  },
  TANDEM_BPF_CLOSED: {
    severity: 'error',
    meaning: 'a BPF handle was used after it was closed, or as another kind of handle',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_BPF_KIND: {
    severity: 'error',
    meaning: 'a pin is of another kind (map, program, link) than expected',
    fix: 'find out which program pins in bpffsDir; restart the agent',
  },
  TANDEM_BPF_MISMATCH: {
    severity: 'error',
    meaning:
      'a pinned map has another key or value size, type or capacity than the object file declares',
    fix: 'restart the agent of the version that made the pins, or remove Tandem from the node and start again',
  },
  TANDEM_BPF_STATE: {
    severity: 'error',
    meaning: 'a BPF operation came before or after the object was loaded',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_BPF_ARGUMENT: {
    severity: 'error',
    meaning: 'an argument of the BPF addon has the wrong type or range',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_BPF_PERMISSION: {
    severity: 'error',
    meaning: 'the kernel denies bpf(2) to this process (EPERM, EACCES)',
    fix: 'grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a seccomp profile that allows bpf(2)',
  },
  TANDEM_BPF_NOT_FOUND: {
    severity: 'error',
    meaning: 'a pin, map entry or interface does not exist (ENOENT, ENODEV)',
    fix: 'start the agent, which pins maps and programs',
  },
  TANDEM_BPF_EXISTS: {
    severity: 'error',
    meaning: 'a pin or map entry exists already (EEXIST)',
    fix: 'find out which program pins in bpffsDir; restart the agent',
  },
  TANDEM_BPF_FULL: {
    severity: 'error',
    meaning:
      'a map has no room (E2BIG, ENOSPC): the entry is not written, and its traffic is denied',
    fix: 'see "When something is full" in docs/operations.md',
  },
  TANDEM_BPF_UNSUPPORTED: {
    severity: 'error',
    meaning: 'the kernel says that it does not support an operation (EOPNOTSUPP)',
    fix: 'boot a kernel of 6.6 or newer; `tandem doctor --preflight` names what is missing',
  },
  TANDEM_BPF_SYSCALL: {
    severity: 'error',
    meaning: 'bpf(2) or another system call of the BPF addon failed with another errno',
    fix: 'act on the errno in the message',
  },
  TANDEM_BPF_RUNTIME: {
    severity: 'error',
    meaning: 'the BPF addon does not run with this Node.js',
    fix: 'run ./run setup, which builds the addon for the Node.js of Tandem',
  },
  TANDEM_SOCKET_SYSTEM: {
    severity: 'error',
    meaning:
      'a system call of the socket addon failed; `errno` and `syscall` beside the code name the cause',
    fix: 'act on the errno: EADDRINUSE wants another port, EPERM a capability',
  },
  TANDEM_SOCKET_ARGUMENT: {
    severity: 'error',
    meaning: 'an argument of the socket addon has the wrong type or range',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_SOCKET_DETACHED: {
    severity: 'error',
    meaning: 'the buffer of a UDP loop was detached while the loop used it',
    fix: 'report it, with `kubectl tandem sysdump --redact`: it is a bug of Tandem',
  },
  TANDEM_SOCKET_LIBUV: {
    severity: 'error',
    meaning: 'the socket addon does not find the functions of libuv that it needs in this Node.js',
    fix: 'run Tandem with the Node.js that ./run setup installs',
  },
} as const;

/** The part of the API that scripts may compare: "TANDEM_SOCKET_IN_USE". */
export type ErrorCode = keyof typeof errorRows;
export const errorCodes: CodeTable<ErrorCode> = errorRows;

/** Whether an error with this code is a fault of Tandem, and not of its surroundings: its fix is to report it. */
export const isBugCode = (code: ErrorCode): boolean =>
  errorRows[code].fix === errorRows.TANDEM_BUG.fix;
