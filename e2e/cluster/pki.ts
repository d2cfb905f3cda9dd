// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Certificates and kubeconfig files of a cluster: ECDSA, by openssl, in about a second. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  controlPlaneAddress,
  kubernetesServiceAddress,
  nodeAddress,
  nodeName,
  pkiDirectory,
} from './settings.ts';

/** Path of a file of the PKI. */
export const pki = (file: string): string => join(pkiDirectory, file);

export function makePki(nodes: number): void {
  mkdirSync(pkiDirectory, { recursive: true, mode: 0o700 });
  authority('ca', 'kubernetes-ca');
  authority('front-proxy-ca', 'front-proxy-ca');
  openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', pki('sa.key'));
  openssl('ec', '-in', pki('sa.key'), '-pubout', '-out', pki('sa.pub'));
  const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost'];
  certificate('apiserver', '/CN=kube-apiserver', 'ca', [
    ...['127.0.0.1', controlPlaneAddress, kubernetesServiceAddress].map((ip) => `IP:${ip}`),
    ...names.map((name) => `DNS:${name}`),
  ]);
  certificate('front-proxy', '/CN=front-proxy-client', 'front-proxy-ca');
  for (const [file, subject] of Object.entries({
    'kubelet-client': '/O=system:masters/CN=apiserver-kubelet-client',
    admin: '/O=system:masters/CN=admin',
    'controller-manager': '/CN=system:kube-controller-manager',
    scheduler: '/CN=system:kube-scheduler',
    proxy: '/CN=system:kube-proxy',
  })) {
    certificate(file, subject, 'ca');
    kubeconfig(file);
  }
  for (let i = 1; i <= nodes; i++) {
    const name = nodeName(i);
    const subject = `/O=system:nodes/CN=system:node:${name}`;
    certificate(name, subject, 'ca', [`IP:${nodeAddress(i)}`, `DNS:${name}`]);
    kubeconfig(name);
  }
}

function authority(file: string, name: string): void {
  openssl(
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-days', '3650', '-subj', `/CN=${name}`],
    ...['-keyout', pki(`${file}.key`), '-out', pki(`${file}.crt`)],
    ...['-addext', 'basicConstraints=critical,CA:TRUE'],
    ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'],
  );
}

function certificate(
  file: string,
  subject: string,
  signer: string,
  alternativeNames: readonly string[] = [],
): void {
  openssl(
    ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-subj', subject, '-keyout', pki(`${file}.key`), '-out', pki(`${file}.csr`)],
  );
  const extensions = [
    'extendedKeyUsage=clientAuth,serverAuth',
    'keyUsage=critical,digitalSignature',
    ...(alternativeNames.length > 0 ? [`subjectAltName=${alternativeNames.join(',')}`] : []),
  ];
  writeFileSync(pki(`${file}.ext`), `${extensions.join('\n')}\n`);
  openssl(
    ...['x509', '-req', '-in', pki(`${file}.csr`), '-days', '3650', '-out', pki(`${file}.crt`)],
    ...['-CA', pki(`${signer}.crt`), '-CAkey', pki(`${signer}.key`), '-CAcreateserial'],
    ...['-extfile', pki(`${file}.ext`)],
  );
}

function kubeconfig(file: string): void {
  const data = (name: string): string => readFileSync(pki(name)).toString('base64');
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'cluster' },
    clusters: [
      {
        name: 'cluster',
        cluster: {
          server: `https://${controlPlaneAddress}:6443`,
          'certificate-authority-data': data('ca.crt'),
        },
      },
    ],
    users: [
      {
        name: 'user',
        user: {
          'client-certificate-data': data(`${file}.crt`),
          'client-key-data': data(`${file}.key`),
        },
      },
    ],
    contexts: [{ name: 'cluster', context: { cluster: 'cluster', user: 'user' } }],
  };
  writeFileSync(pki(`${file}.conf`), JSON.stringify(config), { mode: 0o600 });
}

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
