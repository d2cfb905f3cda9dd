// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// What others make of NetworkPolicies: Kubernetes' API server, whether it takes an object (strict decoding, defaults and
// validation as on create), and Cyclonus, what the objects allow. Standard input has a JSON object on each line: first the
// traffic that is asked about, then cases, each a list of objects. Each case is answered by one line.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
)

type question struct {
	// The direction whose policies are asked: at Destination if true, else at Source.
	IsIngress   bool                 `json:"isIngress"`
	Source      *matcher.TrafficPeer `json:"source"`
	Destination *matcher.TrafficPeer `json:"destination"`
	Port        int                  `json:"port"`
	// What the destination calls the port; Cyclonus takes one name at a time.
	PortNames []string    `json:"portNames"`
	Protocol  v1.Protocol `json:"protocol"`
}

type setup struct {
	Questions []question `json:"questions"`
}

type testCase struct {
	// A file's text, to be read as kubectl reads it; then no policies.
	Text     *string           `json:"text"`
	Policies []json.RawMessage `json:"policies"`
	// Which questions; absent: all.
	Asked []int `json:"asked"`
}

type answer struct {
	// For each policy why the API server refuses it; "" if it does not.
	Refusals []string `json:"refusals"`
	// A digit for each question, 1: allowed. Empty if a policy is refused.
	Verdicts string `json:"verdicts"`
	// What the text holds, to the first document that cannot be read.
	Documents []json.RawMessage `json:"documents,omitempty"`
	// Why it cannot be read; "" if it can.
	Unreadable string `json:"unreadable,omitempty"`
}

const lineBytesMax = 64 << 20

// As of kubectl.
const yamlBufferBytes = 4096

var decoder = serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), lineBytesMax)
	var known setup
	if !lines.Scan() {
		fail(fmt.Errorf("no traffic on standard input"))
	}
	check(json.Unmarshal(lines.Bytes(), &known))
	output := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		var given testCase
		check(json.Unmarshal(lines.Bytes(), &given))
		text, err := json.Marshal(answerTo(given, known.Questions))
		check(err)
		output.Write(append(text, '\n'))
	}
	check(lines.Err())
	check(output.Flush())
}

func answerTo(given testCase, questions []question) answer {
	if given.Text != nil {
		return read(*given.Text)
	}
	refusals := make([]string, len(given.Policies))
	policies := make([]*networkingv1.NetworkPolicy, len(given.Policies))
	isRefused := false
	for i, raw := range given.Policies {
		policy, err := create(raw)
		if err != nil {
			refusals[i] = err.Error()
			isRefused = true
		}
		policies[i] = policy
	}
	if isRefused {
		return answer{Refusals: refusals}
	}
	asked := given.Asked
	if asked == nil {
		asked = make([]int, len(questions))
		for i := range asked {
			asked[i] = i
		}
	}
	// As `cyclonus analyze` does without --simplify-policies=false.
	built := matcher.BuildNetworkPolicies(true, policies)
	var verdicts strings.Builder
	for _, index := range asked {
		verdicts.WriteByte(verdict(built, questions[index]))
	}
	return answer{Refusals: refusals, Verdicts: verdicts.String()}
}

// read does what `kubectl apply -f` does to a file, up to the objects.
func read(text string) answer {
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), yamlBufferBytes)
	var read answer
	for {
		var document runtime.RawExtension
		err := documents.Decode(&document)
		if err == io.EOF {
			return read
		}
		if err != nil {
			read.Unreadable = err.Error()
			return read
		}
		raw := bytes.TrimSpace(document.Raw)
		if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
			read.Documents = append(read.Documents, raw)
		}
	}
}

// create does to the object what the API server does when it is created: it has the defaults then.
func create(raw []byte) (*networkingv1.NetworkPolicy, error) {
	object, _, err := decoder.Decode(raw, nil, nil)
	if err != nil {
		return nil, err
	}
	policy, ok := object.(*networkingv1.NetworkPolicy)
	if !ok {
		return nil, fmt.Errorf("is a %T", object)
	}
	legacyscheme.Scheme.Default(policy)
	internal := &networking.NetworkPolicy{}
	if err := legacyscheme.Scheme.Convert(policy, internal, nil); err != nil {
		return nil, err
	}
	request := &genericapirequest.RequestInfo{
		IsResourceRequest: true, APIGroup: "networking.k8s.io", APIVersion: "v1", Resource: "networkpolicies", Verb: "create",
	}
	ctx := genericapirequest.WithRequestInfo(context.Background(), request)
	ctx = genericapirequest.WithNamespace(ctx, policy.Namespace)
	rest.FillObjectMetaSystemFields(&internal.ObjectMeta)
	if err := rest.BeforeCreate(networkpolicy.Strategy, ctx, internal); err != nil {
		return nil, err
	}
	return policy, nil
}

func verdict(policies *matcher.Policy, asked question) byte {
	for _, name := range append([]string{""}, asked.PortNames...) {
		result := policies.IsIngressOrEgressAllowed(&matcher.Traffic{
			Source:           asked.Source,
			Destination:      asked.Destination,
			ResolvedPort:     asked.Port,
			ResolvedPortName: name,
			Protocol:         asked.Protocol,
		}, asked.IsIngress)
		if result.IsAllowed() {
			return '1'
		}
	}
	return '0'
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "oracle:", err)
	os.Exit(1)
}
