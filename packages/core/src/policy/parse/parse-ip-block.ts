// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ipBlock of a NetworkPolicy. Objects that older API servers took may have bits beyond the length, which they ignored.
 *
 * Source: kubernetes/pkg/apis/networking/validation (ValidateIPBlock), feature StrictIPCIDRValidation.
 */

import { at, readFields, readText } from '../../k8s/shape.ts';
import {
  compareAddresses,
  comparePrefixes,
  formatPrefix,
  hostPrefix,
  type Prefix,
  parseAddress,
} from '../../net/ip.ts';
import { cidrPeer, type Peer } from '../model/peer.ts';
import type { ParseContext } from './parse-context.ts';
import { parseExcept, parseWholePrefix } from './parse-peers.ts';

export function parseIpBlock(value: unknown, path: string, context: ParseContext): Peer | null {
  const before = context.errors.count;
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const fields = context.presentFields(read, path, ['cidr', 'except']);
  const text = readText(fields, 'cidr', path, context.errors);
  const cidrPath = at(path, 'cidr');
  if (fields['cidr'] === undefined) context.error(cidrPath, 'is missing: give a prefix');
  const cidr = text === undefined ? null : parseWholePrefix(text, cidrPath, context);
  if (cidr === null || context.errors.count !== before) return null;
  warnOfHostBits(cidr, text ?? '', cidrPath, context);
  const except = parseExcept(fields, path, cidr, context, (prefix, exceptText, exceptPath) => {
    warnOfHostBits(prefix, exceptText, exceptPath, context);
    if (comparePrefixes(prefix, cidr) !== 0) return;
    context.error(
      exceptPath,
      `leaves nothing of ${text}: make it smaller than cidr, or remove the peer`,
    );
  });
  return { ...cidrPeer(cidr, except), isIpBlock: true };
}

function warnOfHostBits(prefix: Prefix, text: string, path: string, context: ParseContext): void {
  const [addressText = ''] = text.split('/');
  const address = parseAddress(addressText);
  if (address === null || compareAddresses(address, prefix.address) === 0) return;
  const alone = formatPrefix(hostPrefix(address));
  context.warn(
    path,
    `${text} means ${formatPrefix(prefix)}: write that, or ${alone} for the address alone`,
  );
}
