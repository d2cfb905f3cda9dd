// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whether this network namespace has IPv6, as far as delivery to the shared socket needs it. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

/**
 * - `on`: the loopback interface has IPv6.
 * - `off`: no interface has it (`net.ipv6.conf.all.disable_ipv6=1`).
 * - `no-loopback`: an interface has it, and the loopback interface does not: queries that pods send over
 *   IPv6 cannot be delivered to the shared socket.
 * - `absent`: the kernel has no IPv6 (`ipv6.disable=1`).
 */
export type Ipv6State = 'on' | 'off' | 'no-loopback' | 'absent';

export const ipv6Texts: Readonly<Record<Ipv6State, string>> = {
  on: 'the node has IPv4 and IPv6',
  off: 'IPv6 is switched off on this node (disable_ipv6): IPv4 alone is served, IPv6 of pods under policy is dropped',
  'no-loopback':
    'IPv6 is switched off on the loopback interface alone: DNS queries over IPv6 of pods under policy are dropped',
  absent:
    'the kernel has no IPv6 (ipv6.disable=1): IPv4 alone is served, IPv6 of pods under policy is dropped',
};

/** Mends `no-loopback`. */
export const loopbackFix = 'sysctl -w net.ipv6.conf.lo.disable_ipv6=0';

const settings = '/proc/sys/net/ipv6/conf';
type Addresses = Readonly<Record<string, readonly { readonly family: string }[] | undefined>>;

const templates: ReadonlySet<string> = new Set(['all', 'default', 'lo']);

/** Note about the node's address families that is no fault; empty if it has both. */
export function familyNotes(): readonly string[] {
  const state = ipv6State();
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const hasIpv4 = addresses.some(({ family }) => family === 'IPv4');
  return [
    ...(state === 'off' || state === 'absent' ? [ipv6Texts[state]] : []),
    ...(hasIpv4 ? [] : ['the node has no IPv4 address: IPv6 alone is served']),
  ];
}

export function ipv6State(
  directory: string = settings,
  interfaces: () => Addresses = networkInterfaces,
): Ipv6State {
  if (!existsSync(directory)) return ipv6StateOf(interfaces());
  if (!isDisabled(directory, 'lo')) return 'on';
  const others = readdirSync(directory).filter((name) => !templates.has(name));
  return others.some((name) => !isDisabled(directory, name)) ? 'no-loopback' : 'off';
}

/** Whether the interface is known to have no IPv6, so that nothing of it can be set there. */
export function lacksIpv6(name: string, directory: string = settings): boolean {
  if (!existsSync(directory)) return ipv6State(directory) === 'absent';
  return isDisabled(directory, name);
}

/** By addresses: /proc/sys may be hidden from a process (systemd's ProcSubset=pid). */
function ipv6StateOf(interfaces: Addresses): Ipv6State {
  const names = Object.keys(interfaces).filter((name) =>
    interfaces[name]?.some(({ family }) => family === 'IPv6'),
  );
  if (names.length === 0) return 'absent';
  return names.includes('lo') ? 'on' : 'no-loopback';
}

/** An interface that went away meanwhile has no IPv6. */
function isDisabled(directory: string, name: string): boolean {
  try {
    return readFileSync(join(directory, name, 'disable_ipv6'), 'utf8').trim() !== '0';
  } catch {
    return true;
  }
}
