// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Takes out of a sysdump what says whose cluster it is. The same name is the same mark everywhere in one sysdump, so
 * that a reader can follow it from file to file; the key is a new one each time and kept nowhere.
 */

import { createHmac, randomBytes } from 'node:crypto';
import { isIPv6 } from 'node:net';

/** Names of ours and of Kubernetes, which say nothing of the cluster. */
const kept = new Set([
  ...[
    'default',
    'kube-system',
    'kube-public',
    'kube-node-lease',
    'kube-dns',
    'kubernetes',
    'cluster.local',
  ],
  ...['tandem', 'tandem-agent', 'tandem-dns-proxy', 'agent', 'dns-proxy', 'localhost'],
]);

/** API groups and labels look like DNS names, and are the words of objects. */
const wordsOfObjects = /(^|\.)(k8s\.io|kubernetes\.io|cilium\.io|tandem\.dev|tandem)$/;

const ipv4 = /(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])/g;
/** Text that may be an IPv6 address; a time of day looks like one too. */
const ipv6 = /(?<![\w:])[\da-f:][\da-f:.]*:[\da-f:.]*/gi;
/** At least two labels, the last one of letters; `*` as in patterns. */
const dnsName =
  /(?<![\w.@/-])(?:(?:[a-z0-9_*](?:[a-z0-9_-]*[a-z0-9])?)\.)+[a-z]{2,24}\.?(?![\w-])/gi;
/** Files, and versions of APIs, that a pattern for names takes for one. */
const fileName = /\.(json|js|ts|yaml|yml|o|sock|log|txt|conflist|service|go|md)\.?$/i;

/** A word of Kubernetes' names, without dots: what has dots is a DNS name. */
const word = /[a-z0-9](?:[a-z0-9-]*[a-z0-9])?/g;

export class Redactor {
  readonly #key = randomBytes(32);
  readonly #names: ReadonlySet<string>;

  /** `names`: of pods, namespaces, nodes, services and policies of the cluster. */
  constructor(names: Iterable<string>) {
    this.#names = new Set([...names].filter((name) => name.length > 1 && !kept.has(name)));
  }

  text(text: string): string {
    return text
      .replace(dnsName, (name) => this.#dnsName(name))
      .replace(ipv4, (address) => this.#mark('ipv4', address))
      .replace(ipv6, (found) => this.#ipv6(found))
      .replace(word, (name) => (this.#names.has(name) ? this.#mark('name', name) : name));
  }

  #dnsName(name: string): string {
    const bare = name.replace(/\.$/, '');
    if (kept.has(bare) || fileName.test(bare) || wordsOfObjects.test(bare)) return name;
    return this.#mark('dns', bare.toLowerCase());
  }

  /** Punctuation behind an address is not its own. */
  #ipv6(text: string): string {
    for (let end = text.length; end > 1; end--) {
      const address = text.slice(0, end);
      if (isIPv6(address)) return this.#mark('ipv6', address) + text.slice(end);
      if (!/[:.]$/.test(address)) break;
    }
    return text;
  }

  /** Digits alone, so that no mark holds a word that is a name. */
  #mark(kind: string, value: string): string {
    const digest = createHmac('sha256', this.#key).update(value).digest().readUIntBE(0, 6);
    return `<${kind}:${digest}>`;
  }
}
