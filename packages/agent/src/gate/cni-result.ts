// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The network of a pod as CNI plugins report it: the result of ADD, versions 0.3.0 to 1.1.0 of the specification. It is
 * written by root on the node, never by the pod.
 */

import { isFields } from '@tandem/core/k8s/shape';
import { parseAddress } from '@tandem/core/net/ip';
import { err, ok, type Result } from '@tandem/core/result';
import { resultInterfacesMax, sandboxAddressesMax } from './limits.ts';

export interface SandboxNetwork {
  /** Addresses of the pod, 16 octets each. */
  readonly addresses: readonly Uint8Array[];
  /** Names of interfaces on the node: one of them is the host side of the pod's veth. */
  readonly hostInterfaces: readonly string[];
  /** MAC address of the pod's interface; null: the result does not say it. */
  readonly podMac: Uint8Array | null;
}

/** `result`: parsed JSON. `podInterface`: CNI_IFNAME. The error names the fault. */
export function readCniResult(
  result: unknown,
  podInterface: string,
): Result<SandboxNetwork, string> {
  if (!isFields(result)) return err('the result is no object');
  const interfaces = listOf(result['interfaces']);
  const ips = listOf(result['ips']);
  if (interfaces.length > resultInterfacesMax) {
    return err(`it names more than ${resultInterfacesMax} interfaces`);
  }
  const hostInterfaces: string[] = [];
  let podMac: Uint8Array | null = null;
  for (const each of interfaces) {
    const { name, sandbox, mac } = each;
    if (typeof name !== 'string' || name === '') continue;
    if (typeof sandbox !== 'string' || sandbox === '') hostInterfaces.push(name);
    else if (name === podInterface) podMac = parseMac(mac);
  }
  const addresses: Uint8Array[] = [];
  for (const { address, interface: index } of ips) {
    if (typeof index === 'number' && interfaces[index]?.['name'] !== podInterface) continue;
    const parsed = typeof address === 'string' ? parseAddress(address.split('/')[0] ?? '') : null;
    if (parsed === null) return err(`ips has no address: ${JSON.stringify(address)}`);
    addresses.push(parsed);
  }
  if (addresses.length === 0) return err(`it has no address of ${podInterface}`);
  if (addresses.length > sandboxAddressesMax) {
    return err(`it has more than ${sandboxAddressesMax} addresses`);
  }
  return ok({ addresses, hostInterfaces, podMac });
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isFields) : [];
}

function parseMac(value: unknown): Uint8Array | null {
  if (typeof value !== 'string' || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(value)) return null;
  return Uint8Array.from(Buffer.from(value.replaceAll(':', ''), 'hex'));
}
