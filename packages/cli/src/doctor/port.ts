// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Port P: no other program has it, and it is not in the kernel's range of ephemeral ports. */

import { readdirSync, readlinkSync } from 'node:fs';
import { type Check, type CheckResult, fail, pass, warn } from './check.ts';
import { readSysctl, readText } from './system.ts';

/** TCP_LISTEN, as /proc/net/tcp writes it. */
const listening = '0A';

interface PortSocket {
  readonly protocol: string;
  readonly uid: number;
  readonly inode: string;
}

export const checkPort: Check = ({ settings }) => {
  const { port, proxyUid } = settings;
  return [checkSockets(port, proxyUid), checkEphemeral(port)];
};

function checkSockets(port: number, proxyUid: number): CheckResult {
  const check = 'port-in-use';
  const sockets = ['udp', 'udp6', 'tcp', 'tcp6'].flatMap((protocol) => socketsAt(protocol, port));
  const foreign = sockets.filter(({ uid }) => uid !== proxyUid);
  if (foreign.length === 0) {
    const own =
      sockets.length === 0
        ? 'is free'
        : `has ${sockets.length} sockets, all of Tandem (uid ${proxyUid})`;
    return pass(check, `port ${port} ${own}`);
  }
  const holders = foreign.map(({ protocol, uid, inode }) => {
    const holder = holderOf(inode);
    const who = holder === null ? 'an unknown process' : `${holder.name} (pid ${holder.pid})`;
    return { text: `${who}, ${protocol}, uid ${uid}`, pid: holder?.pid };
  });
  const pids = [...new Set(holders.flatMap(({ pid }) => (pid === undefined ? [] : [pid])))];
  const stop = pids.length === 0 ? 'stop it' : `stop it (kill ${pids.join(' ')})`;
  return fail(
    check,
    `port ${port} is held by ${[...new Set(holders.map(({ text }) => text))].join('; ')}: DNS cannot be served on it`,
    `${stop}, or give both processes another --port`,
  );
}

/** Lines of /proc/net/PROTOCOL: sl local_address rem_address st ... uid timeout inode. */
function socketsAt(protocol: string, port: number): readonly PortSocket[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  const lines = (readText(`/proc/net/${protocol}`) ?? '').split('\n').slice(1);
  return lines.flatMap((line): readonly PortSocket[] => {
    const fields = line.trim().split(/\s+/);
    const [, local = '', , state, , , , uid, , inode = ''] = fields;
    if (!local.endsWith(`:${wanted}`)) return [];
    // Connections to it have the port too; who listens decides.
    if (protocol.startsWith('tcp') && state !== listening) return [];
    return [{ protocol, uid: Number(uid), inode }];
  });
}

function holderOf(inode: string): { readonly pid: number; readonly name: string } | null {
  const wanted = `socket:[${inode}]`;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (!openFilesOf(pid).includes(wanted)) continue;
    return { pid: Number(pid), name: readText(`/proc/${pid}/comm`) ?? '?' };
  }
  return null;
}

function openFilesOf(pid: string): readonly string[] {
  try {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).map((fd) => {
      try {
        return readlinkSync(`${directory}/${fd}`);
      } catch {
        // Closed since the directory was read.
        return '';
      }
    });
  } catch {
    // Ended since, or not for us to see.
    return [];
  }
}

function checkEphemeral(port: number): CheckResult {
  const check = 'port-ephemeral';
  const range = (readSysctl('net.ipv4.ip_local_port_range') ?? '').split(/\s+/).map(Number);
  const reserved = readSysctl('net.ipv4.ip_local_reserved_ports') ?? '';
  const [first = 0, last = 0] = range;
  const isReserved = reserved.split(',').some((item) => {
    const [from = '', to = from] = item.split('-');
    return item !== '' && port >= Number(from) && port <= Number(to);
  });
  if (port < first || port > last || isReserved) {
    return pass(
      check,
      `the kernel gives port ${port} to no other socket (it gives ${first}..${last})`,
    );
  }
  const all = reserved === '' ? String(port) : `${reserved},${port}`;
  return warn(
    check,
    `port ${port} lies in net.ipv4.ip_local_port_range (${first}..${last}): any connection of the host may get it before Tandem`,
    `sysctl -w net.ipv4.ip_local_reserved_ports=${all}`,
  );
}
