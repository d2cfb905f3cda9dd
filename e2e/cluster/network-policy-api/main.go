// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// The conformance suite of the Network Policy API, as a program: its own is a test of its module. With all flags of the suite
// (conformance/utils/flags) and of `go test` (-test.run, -test.v); -kubeconfig says of which cluster.
package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/yaml"

	api "sigs.k8s.io/network-policy-api/apis/v1beta1"
	reports "sigs.k8s.io/network-policy-api/conformance/apis/v1alpha1"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	timeouts "sigs.k8s.io/network-policy-api/conformance/utils/config"
	"sigs.k8s.io/network-policy-api/conformance/utils/flags"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

// For what is expected to come, after many tries of three seconds: on a machine short of CPU one `exec` may take more than the 10 s of
// the suite, which sets no greatest value.
const pokeTimeout = time.Minute

// The suite itself asks for a few of these a second at most.
const requestsPerSecond = 50

var skippedTests = flag.String("skip-tests", "", "names of tests, with commas between them")

func main() {
	matches := func(pattern, text string) (bool, error) { return regexp.MatchString(pattern, text) }
	testing.Main(matches, []testing.InternalTest{{Name: "conformance", F: conformance}}, nil, nil)
}

func conformance(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	configuration, err := config.GetConfig()
	must(err)
	configuration.QPS, configuration.Burst = requestsPerSecond, requestsPerSecond
	objects, err := client.New(configuration, client.Options{})
	must(err)
	must(api.Install(objects.Scheme()))
	must(apiextensions.AddToScheme(objects.Scheme()))
	clients, err := kubernetes.NewForConfig(configuration)
	must(err)
	options := suite.Options{
		Client: objects, ClientSet: clients, KubeConfig: *configuration,
		Debug:                      *flags.ShowDebug,
		CleanupBaseResources:       *flags.CleanupBaseResources,
		SupportedFeatures:          suite.ParseSupportedFeatures(*flags.SupportedFeatures),
		ExemptFeatures:             suite.ParseSupportedFeatures(*flags.ExemptFeatures),
		EnableAllSupportedFeatures: *flags.EnableAllSupportedFeatures,
		TimeoutConfig:              timeouts.TimeoutConfig{PokeTimeout: pokeTimeout},
	}
	if *skippedTests != "" {
		options.SkipTests = strings.Split(*skippedTests, ",")
	}
	run, err := suite.NewConformanceProfileTestSuite(suite.ConformanceProfileOptions{
		Options: options,
		Implementation: reports.Implementation{
			Organization: *flags.ImplementationOrganization,
			Project:      *flags.ImplementationProject,
			URL:          *flags.ImplementationURL,
			Version:      *flags.ImplementationVersion,
		},
		ConformanceProfiles: suite.ParseConformanceProfiles(*flags.ConformanceProfiles),
	})
	must(err)
	run.Setup(t)
	must(run.Run(t, tests.ConformanceTests))
	report, err := run.Report()
	must(err)
	text, err := yaml.Marshal(report)
	must(err)
	if *flags.ReportOutput != "" {
		must(os.WriteFile(*flags.ReportOutput, text, 0o644))
	}
}
