// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Definitions of Cilium's kinds by this version, for clusters that have none. The agent, not the schema, checks the content of a policy. */

import type { Fields } from '@tandem/core/k8s/shape';

/** Raised with each change of the definitions below: a cluster that has a higher one is not changed. */
export const definitionVersion = 2;
/** Label with the version, on definitions of ours alone. */
export const versionLabel = 'tandem.dev/definition-version';

export interface Definition {
  readonly name: string;
  readonly spec: Fields;
  /** As the chart brought it before the controller did, without any mark. */
  readonly unmarkedSchema: Fields;
}

const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } as const;

/** Conditions are a map by type: each writer has its own. */
const status = {
  type: 'object',
  'x-kubernetes-preserve-unknown-fields': true,
  properties: {
    conditions: {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      items: {
        type: 'object',
        required: ['type', 'status'],
        properties: {
          type: { type: 'string' },
          status: { type: 'string' },
          reason: { type: 'string' },
          message: { type: 'string' },
          lastTransitionTime: { type: 'string', format: 'date-time' },
        },
      },
    },
  },
} as const;

const schema = (statusSchema: Fields): Fields => ({
  type: 'object',
  properties: { spec: anything, specs: { type: 'array', items: anything }, status: statusSchema },
});

interface Kind {
  readonly kind: string;
  readonly shortName: string;
  readonly scope: 'Namespaced' | 'Cluster';
  readonly schema: Fields;
  readonly unmarkedSchema: Fields;
  readonly columns: readonly Fields[];
}

function definition({ kind, shortName, scope, columns, ...schemas }: Kind): Definition {
  const singular = kind.toLowerCase();
  const plural = `${singular.slice(0, -1)}ies`;
  return {
    name: `${plural}.cilium.io`,
    spec: {
      group: 'cilium.io',
      scope,
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames: [shortName] },
      versions: [
        {
          name: 'v2',
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: columns,
          schema: { openAPIV3Schema: schemas.schema },
        },
      ],
    },
    unmarkedSchema: schemas.unmarkedSchema,
  };
}

const age = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };
const valid = {
  name: 'Valid',
  type: 'string',
  jsonPath: ".status.conditions[?(@.type=='Valid')].status",
};
const ofPolicies = {
  schema: schema(status),
  unmarkedSchema: schema(anything),
  columns: [age, valid],
};
/** As in Cilium, frontend and backend of a redirect cannot be changed: the object is deleted and created again. */
const redirectSchema = {
  type: 'object',
  properties: {
    spec: {
      ...anything,
      'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'spec is immutable' }],
    },
    status: anything,
  },
};

export const definitions: readonly Definition[] = [
  definition({
    ...{ kind: 'CiliumNetworkPolicy', shortName: 'cnp', scope: 'Namespaced' },
    ...ofPolicies,
  }),
  definition({
    ...{ kind: 'CiliumClusterwideNetworkPolicy', shortName: 'ccnp', scope: 'Cluster' },
    ...ofPolicies,
  }),
  definition({
    ...{ kind: 'CiliumLocalRedirectPolicy', shortName: 'clrp', scope: 'Namespaced' },
    ...{ schema: redirectSchema, unmarkedSchema: redirectSchema, columns: [age] },
  }),
];
