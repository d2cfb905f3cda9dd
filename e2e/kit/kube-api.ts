// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** An API server that a test node's agent reads, at a port of the node's loopback interface. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ApiObject, ApiServer } from '@tandem/testing/api-server';
import type { TestNode } from '@tandem/testing/netns';
import type { RunningProcess } from '@tandem/testing/process';
import { startRelay } from '@tandem/testing/relay';

/** Port of the loopback interface of the node. */
export const kubeApiPort = 6443;
const paths: Readonly<Record<string, string>> = {
  Namespace: '/api/v1/namespaces',
  Node: '/api/v1/nodes',
  Pod: '/api/v1/pods',
  Service: '/api/v1/services',
  EndpointSlice: '/apis/discovery.k8s.io/v1/endpointslices',
  NetworkPolicy: '/apis/networking.k8s.io/v1/networkpolicies',
  CiliumNetworkPolicy: '/apis/cilium.io/v2/ciliumnetworkpolicies',
  CiliumClusterwideNetworkPolicy: '/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies',
  CiliumLocalRedirectPolicy: '/apis/cilium.io/v2/ciliumlocalredirectpolicies',
};

export class KubeApi implements AsyncDisposable {
  readonly server: ApiServer;
  /** File. */
  readonly kubeconfig: string;
  readonly #directory: string;
  readonly #socket: string;
  #relay: RunningProcess | null = null;

  private constructor(server: ApiServer, directory: string) {
    this.server = server;
    this.#directory = directory;
    this.#socket = join(directory, 'api.sock');
    this.kubeconfig = join(directory, 'kubeconfig');
    writeFileSync(this.kubeconfig, server.kubeconfig(`https://127.0.0.1:${kubeApiPort}`));
  }

  static async start(): Promise<KubeApi> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-kube-'));
    const server = await ApiServer.start(join(directory, 'api.sock'));
    server.serve(...Object.values(paths));
    return new KubeApi(server, directory);
  }

  /** From now on the node reaches it. */
  async connect(node: TestNode): Promise<void> {
    this.#relay = await startRelay(node.node, kubeApiPort, this.#socket);
  }

  /** The node does not reach it any more. */
  async disconnect(): Promise<void> {
    const relay = this.#relay;
    this.#relay = null;
    if (relay === null) return;
    relay.child.kill('SIGKILL');
    await relay.exited;
  }

  put(...objects: readonly object[]): void {
    for (const object of objects) this.server.put(pathOf(object), object as ApiObject);
  }

  remove(...objects: readonly object[]): void {
    for (const object of objects) this.server.remove(pathOf(object), object as ApiObject);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disconnect();
    await this.server.stop();
    rmSync(this.#directory, { recursive: true });
  }
}

function pathOf(object: object): string {
  const { kind } = object as { readonly kind: string };
  const path = paths[kind];
  if (path === undefined) throw new TypeError(`no path of ${kind}`);
  return path;
}
