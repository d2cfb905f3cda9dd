// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Controllers of this checkout against Kubernetes' own API server, without nodes. They have the rights of the chart, and the API server's
 * audit log records what each of them wrote and when.
 */

import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { RealApiServer } from '../kit/real-api-server.ts';
import { type ChartObject, rendered } from './helm-chart.ts';
import { binary } from './programs.ts';

export type Json = Readonly<Record<string, unknown>>;

export const namespace = 'kube-system';
export const leaseName = 'tandem-controller';
export const leaseMs = 3000;
const main = fileURLToPath(new URL('../../packages/controller/src/main.ts', import.meta.url));
const readyTimeoutMs = 60_000;

/** A line of the audit log: a request that has its answer. */
export interface Audited {
  readonly verb: string;
  readonly path: string;
  readonly status: number;
  /** Name of the controller; empty: another holder. */
  readonly controller: string;
  /** Wall clock, ms. */
  readonly atMs: number;
}

export interface RunningController {
  readonly name: string;
  readonly process: RunningProcess;
  readonly url: string;
  /** Text of a path such as /metrics, with the status before it. */
  get(path: string): Promise<string>;
}

const collections: Readonly<Record<string, string>> = {
  ServiceAccount: '/api/v1/namespaces/NS/serviceaccounts',
  ClusterRole: '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  ClusterRoleBinding: '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
  Role: '/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles',
  RoleBinding: '/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings',
  ValidatingAdmissionPolicy: '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
  ValidatingAdmissionPolicyBinding:
    '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings',
};

export const definitionsPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

export class ControllerBed implements AsyncDisposable {
  readonly api: RealApiServer;
  readonly token: string;
  readonly #directory: string;
  readonly #controllers: RunningController[] = [];

  private constructor(api: RealApiServer, token: string, directory: string) {
    this.api = api;
    this.token = token;
    this.#directory = directory;
  }

  /** `values`: of the chart, each `KEY=VALUE`. */
  static async start(values: readonly string[] = []): Promise<ControllerBed> {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-controller-'));
    symlinkSync(binary('etcd'), join(directory, 'etcd'));
    symlinkSync(binary('kubernetes', 'kube-apiserver'), join(directory, 'kube-apiserver'));
    const policy = {
      apiVersion: 'audit.k8s.io/v1',
      kind: 'Policy',
      rules: [{ level: 'Metadata' }],
    };
    writeFileSync(join(directory, 'audit.json'), JSON.stringify(policy));
    const api = await RealApiServer.start(
      directory,
      ...['--audit-log-mode=blocking', `--audit-log-path=${join(directory, 'audit.log')}`],
      `--audit-policy-file=${join(directory, 'audit.json')}`,
    );
    const namespaces = ['default', namespace];
    for (const each of namespaces) {
      // oxlint-disable-next-line no-await-in-loop -- two
      await waitFor(() => api.call('GET', `/api/v1/namespaces/${each}`), {
        what: `namespace ${each}`,
        timeoutMs: readyTimeoutMs,
      });
    }
    const set = values.flatMap((value) => ['--set', value]);
    const objects: readonly ChartObject[] = await rendered('--namespace', namespace, ...set);
    for (const object of objects) {
      const path = collections[object.kind]?.replace('NS', namespace);
      // oxlint-disable-next-line no-await-in-loop -- in their order
      if (path !== undefined) await api.call('POST', path, object);
    }
    const account = `/api/v1/namespaces/${namespace}/serviceaccounts/tandem-controller/token`;
    const { status } = await api.call('POST', account, { spec: { expirationSeconds: 7200 } });
    return new ControllerBed(api, (status as { readonly token: string }).token, directory);
  }

  /** `token`: another one than that of the chart's service account. */
  async startController(
    name: string,
    args: readonly string[] = [],
    token: string = this.token,
  ): Promise<RunningController> {
    const kubeconfig = join(this.#directory, `${name}.conf`);
    const cluster = {
      server: this.api.url,
      'certificate-authority-data': this.api.ca.toString('base64'),
    };
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'c' },
        clusters: [{ name: 'k', cluster }],
        users: [{ name: 'u', user: { token } }],
        contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
      }),
    );
    const port = await freePort();
    const process_ = startProcess(process.execPath, [
      ...['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning', main],
      ...['--kubeconfig', kubeconfig, '--namespace', namespace, '--pod-name', name],
      ...['--lease-name', leaseName, '--lease-duration', `${leaseMs}ms`, '--log-format', 'text'],
      ...['--metrics-address', `127.0.0.1:${port}`, ...args],
    ]);
    const url = `http://127.0.0.1:${port}`;
    const get = async (path: string): Promise<string> => {
      const answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(5000) });
      return `${answer.status} ${await answer.text()}`;
    };
    const controller = { name, process: process_, url, get };
    this.#controllers.push(controller);
    return controller;
  }

  async ready(controller: RunningController): Promise<void> {
    const isReady = async (): Promise<boolean> =>
      (await controller.get('/readyz')).startsWith('200');
    await waitFor(isReady, { what: `${controller.name} is ready`, timeoutMs: 30_000 }).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}: ${controller.process.stderr()}`);
      },
    );
  }

  /** Value of a series; 0: it is not there. */
  async metric({ get }: RunningController, series: string): Promise<number> {
    const line = (await get('/metrics')).split('\n').find((each) => each.startsWith(`${series} `));
    return Number(line?.split(' ').at(-1) ?? 0);
  }

  /** A process collects its metrics at most twice a second, so a scrape may return values that are 500 ms old. */
  async metricIs(controller: RunningController, series: string, value: number): Promise<void> {
    await waitFor(async () => (await this.metric(controller, series)) === value, {
      what: `${series} of ${controller.name} is ${value}`,
      timeoutMs: 20_000,
    });
  }

  async holder(): Promise<string> {
    const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/${leaseName}`;
    const { status, body } = await this.api.ask('GET', path);
    if (status !== 200) return '';
    const { spec } = body as { readonly spec: { readonly holderIdentity?: string } };
    return spec.holderIdentity?.split('_')[0] ?? '';
  }

  async leads(name: string, timeoutMs: number): Promise<void> {
    await waitFor(async () => (await this.holder()) === name, {
      what: `${name} holds the lease`,
      timeoutMs,
    });
  }

  /** Requests since the start, those of watches that go on left out. */
  audited(): readonly Audited[] {
    const lines = readFileSync(join(this.#directory, 'audit.log'), 'utf8').split('\n');
    // The last one may be half written.
    return lines.slice(0, -1).flatMap((line): readonly Audited[] => {
      const event = JSON.parse(line) as {
        readonly stage: string;
        readonly verb: string;
        readonly requestURI: string;
        readonly userAgent?: string;
        readonly requestReceivedTimestamp: string;
        readonly responseStatus?: { readonly code?: number };
      };
      if (event.stage !== 'ResponseComplete') return [];
      const [, controller = ''] = /^tandem-controller\/(\S+)$/.exec(event.userAgent ?? '') ?? [];
      return [
        {
          verb: event.verb,
          path: event.requestURI,
          status: event.responseStatus?.code ?? 0,
          controller,
          atMs: Date.parse(event.requestReceivedTimestamp),
        },
      ];
    });
  }

  /** Requests by which a controller wrote, without those for its lease. */
  writesOf(name: string): readonly Audited[] {
    return this.audited().filter(
      ({ verb, path, controller }) =>
        controller === name &&
        ['create', 'update', 'patch', 'delete'].includes(verb) &&
        !path.includes('/leases'),
    );
  }

  /**
   * Waits until at least `count` writes of this controller are in the audit log, and gives all that are there. The log may have a request after
   * another client has read what the request wrote.
   */
  async writesAre(name: string, count: number): Promise<readonly Audited[]> {
    await waitFor(() => this.writesOf(name).length >= count, {
      what: `${count} writes of ${name} in the audit log`,
      timeoutMs: 10_000,
    });
    return this.writesOf(name);
  }

  /** Ends all controllers. */
  async stopControllers(): Promise<void> {
    for (const { process: each } of this.#controllers.splice(0)) {
      each.child.kill('SIGCONT');
      // oxlint-disable-next-line no-await-in-loop -- few
      await each.stop();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopControllers();
    await this.api[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true });
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new TypeError('not listening');
  return address.port;
}
