package workloads

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// manifests reads the objects of a file in testdata.
func manifests(t testing.TB, name string) []map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
		var o map[string]any
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, o)
	}
}

// describe writes a finding as a line: the object's place in the file, field, image, confidence, and the service account.
func describe(object int, f Found) string {
	return fmt.Sprintf("%d %s = %s (%s) as %s", object, f.Path, f.Image, f.Confidence, cmp.Or(f.Template.ServiceAccount, "default"))
}

// Every kind of workload that is documented to be covered, in a manifest as its project writes them.
func TestFindInKinds(t *testing.T) {
	tests := map[string][]string{
		"aibrix.yaml": {
			`0 spec.template.spec.headGroupSpec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`1 spec.template.spec.roles[0].template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
			`1 spec.template.spec.roles[1].template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as decoder`,
			`2 spec.cache.image = aibrix/vineyardd:20241120 (declared) as default`,
			`3 spec.artifactURL = registry.example.com/models/legal:1 (declared) as default`,
		},
		"appwrapper.yaml": {
			`0 spec.components[0].template.spec.pytorchReplicaSpecs.Master.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as trainer`,
			`0 spec.components[1].template.spec.image = registry.example.com/models/chat:2.1 (declared) as chat`,
		},
		"argo.yaml": {
			`0 spec.arguments.parameters[0].value = registry.example.com/models/chat:2.1 (inferred) as workflow`,
			`0 spec.templates[1].container.image = registry.example.com/models/chat:2.1 (declared) as trainer`,
			`0 spec.templates[1].initContainers[0].image = registry.example.com/models/weights:2 (declared) as trainer`,
			`0 spec.templates[1].sidecars[0].image = fluent/fluent-bit:4 (declared) as trainer`,
			`0 spec.templates[2].container.image = {{workflow.parameters.image}} (unresolved) as workflow`,
			`0 spec.templates[3].script.image = alpine:3.22 (declared) as workflow`,
			`0 spec.templates[3].script.source = registry.example.com/models/copy:1 (inferred) as workflow`,
			`0 spec.templates[3].script.source = registry.example.com/models/chat:2.1 (inferred) as workflow`,
			`0 spec.templates[3].script.source = registry.example.com/models/weights:2 (inferred) as workflow`,
			`0 spec.templates[4].containerSet.containers[0].image = registry.example.com/models/one:1 (declared) as workflow`,
			`0 spec.templates[4].containerSet.containers[1].image = registry.example.com/models/two:1 (declared) as workflow`,
			`0 spec.templates[5].resource.manifest: spec.predictor.model.storageUri = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`1 spec.workflowSpec.templates[0].container.image = registry.example.com/models/chat:2.1 (declared) as workflow`,
			`2 spec.templates[0].script.image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"cronjob.yaml": {
			`0 spec.jobTemplate.spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as evaluator`,
		},
		"daemonset.yaml": {
			`0 spec.template.spec.initContainers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
			`0 spec.template.spec.containers[0].image = registry.k8s.io/pause:3.10 (declared) as default`,
		},
		"deployment.yaml": {
			`0 spec.template.spec.volumes[0].image.reference = registry.example.com/models/weights@sha256:4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a (declared) as llm-server`,
			`0 spec.template.spec.initContainers[0].image = quay.io/acme/fetch:1 (declared) as llm-server`,
			`0 spec.template.spec.initContainers[0].args[0] = registry.example.com/models/weights:2 (inferred) as llm-server`,
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`0 spec.template.spec.containers[1].image = nginx (declared) as llm-server`,
		},
		"dynamo.yaml": {
			`0 spec.services.Frontend.extraPodSpec.mainContainer.image = registry.example.com/runtimes/dynamo:1.3 (declared) as agg-k8s-service-discovery`,
			`0 spec.services.worker.extraPodSpec.containers[0].image = registry.example.com/tools/sidecar:1 (declared) as llm-server`,
			`0 spec.services.worker.extraPodSpec.mainContainer.args[1] = registry.example.com/models/weights:2 (inferred) as llm-server`,
			`0 spec.services.worker.extraPodSpec.mainContainer.image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`1 spec.components[0].podTemplate.spec.containers[0].image = registry.example.com/runtimes/dynamo:1.3 (declared) as agg-k8s-service-discovery`,
			`1 spec.components[1].podTemplate.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`2 spec.extraPodSpec.mainContainer.image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"job.yaml": {
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as evaluator`,
		},
		"jobset.yaml": {
			`0 spec.replicatedJobs[0].template.spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as trainer`,
			`0 spec.replicatedJobs[1].template.spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"kaito.yaml": {
			`0 inference.adapters[0].source.image = registry.example.com/models/legal:1 (declared) as default`,
			`0 inference.preset.presetOptions.image = registry.example.com/models/chat:2.1 (declared) as default`,
			`1 inference.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`2 tuning.input.image = registry.example.com/data/train:1 (declared) as default`,
			`2 tuning.preset.presetOptions.image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"knative.yaml": {
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`1 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"kserve-inferenceservice.yaml": {
			`0 spec.predictor.model.storageUri = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`1 spec.predictor.model.image = registry.example.com/runtimes/vllm:0.11 (declared) as default`,
			`1 spec.predictor.storageUris[0].uri = registry.example.com/models/chat:2.1 (declared) as default`,
			`1 spec.predictor.workerSpec.containers[0].image = registry.example.com/runtimes/vllm:0.11 (declared) as default`,
			`2 spec.predictor.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`2 spec.predictor.containers[0].env[0].value = registry.example.com/models/adapter:1 (inferred) as llm-server`,
			`2 spec.transformer.containers[0].image = registry.example.com/tools/transformer:1 (declared) as default`,
		},
		"kserve-llminferenceservice.yaml": {
			`0 spec.model.lora.adapters[0].uri = registry.example.com/models/legal:1 (declared) as llm-server`,
			`0 spec.model.uri = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`0 spec.prefill.template.containers[0].image = registry.example.com/runtimes/vllm-prefill:0.11 (declared) as prefiller`,
			`0 spec.template.containers[0].image = registry.example.com/runtimes/vllm:0.11 (declared) as llm-server`,
			`0 spec.worker.containers[0].image = registry.example.com/runtimes/vllm:0.11 (declared) as llm-server`,
		},
		"kserve-modelcar.yaml": {
			`0 spec.predictor.containers[0].image = kserve/huggingfaceserver:latest (declared) as default`,
			`0 spec.predictor.containers[1].image = registry.example.com/models/chat:2.1 (declared) as default`,
			`0 spec.predictor.model.storageUri = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"leaderworkerset.yaml": {
			`0 spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`0 spec.leaderWorkerTemplate.workerTemplate.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"list.yaml": {
			`0 items[0].spec.containers[0].image = registry.example.com/models/a:1 (declared) as default`,
			`0 items[1].items[0].spec.template.spec.containers[0].image = registry.example.com/models/b:1 (declared) as b`,
		},
		"nim.yaml": {
			`0 spec.env[0].value = registry.example.com/models/base:1 (inferred) as chat`,
			`0 spec.image = registry.example.com/models/chat:2.1.0 (declared) as chat`,
			`0 spec.initContainers[0].image = registry.example.com/models/warm:1 (declared) as chat`,
			`0 spec.sidecarContainers[0].image = registry.example.com/tools/proxy:1.5 (declared) as chat`,
			`1 spec.services[0].spec.image = registry.example.com/models/chat:2.1.0 (declared) as chat`,
			`1 spec.services[1].spec.image = registry.example.com/models/embed:1.0.0 (declared) as embed`,
			`2 spec.source.ngc.modelPuller = registry.example.com/models/chat:2.1.0 (declared) as nim-cache-sa`,
		},
		"placeholders.yaml": {
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:${VERSION} (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[1].image = <CHANGE ME> (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[2].image = {{ .Values.image.repository }}:{{ .Values.image.tag }} (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[3].image = $(params.image) (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[4].image = {{workflow.parameters.image}} (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[5].image = registry.example.com/models/chat:2.1 (declared) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[5].args[0] = registry.example.com/models/chat:$(VERSION) (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[5].args[1] = <REGISTRY>/models/chat:1 (unresolved) as {{ .Values.account }}`,
			`0 spec.template.spec.containers[7].image = sha256:4bf5122f3445 (declared) as {{ .Values.account }}`,
			`1 spec.args[1].image = registry.example.com/models/in-args:1 (inferred) as default`,
			`1 spec.baseImage = registry.example.com/models/<NAME>:1 (unresolved) as default`,
			`1 spec.env.IMAGE = registry.example.com/models/in-env:1 (inferred) as default`,
			`1 spec.image = registry.example.com/models/chat:${TAG} (unresolved) as default`,
		},
		"pod.yaml": {
			`0 spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
			`0 spec.ephemeralContainers[0].image = registry.example.com/models/chat:debug (declared) as llm-server`,
		},
		"podtemplate.yaml": {
			`0 template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"pytorchjob.yaml": {
			`0 spec.pytorchReplicaSpecs.Master.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as trainer`,
			`0 spec.pytorchReplicaSpecs.Worker.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"raycluster.yaml": {
			`0 spec.headGroupSpec.template.spec.containers[0].image = registry.example.com/models/chat-ray:2.1 (declared) as llm-server`,
			`0 spec.workerGroupSpecs[0].template.spec.containers[0].image = registry.example.com/models/chat-ray:2.1 (declared) as default`,
		},
		"rayjob.yaml": {
			`0 spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].image = registry.example.com/models/chat-ray:2.1 (declared) as default`,
			`0 spec.runtimeEnvYAML = registry.example.com/models/chat:2.1 (inferred) as default`,
			`0 spec.submitterPodTemplate.spec.containers[0].image = rayproject/ray:2.52.0 (declared) as submitter`,
		},
		"rayservice.yaml": {
			`0 spec.rayClusterConfig.headGroupSpec.template.spec.containers[0].image = rayproject/ray:2.52.0 (declared) as default`,
			`0 spec.serveConfigV2 = registry.example.com/models/chat:2.1 (inferred) as default`,
		},
		"replicaset.yaml": {
			`0 spec.template.spec.containers[0].image = REGISTRY.example.com:443/models/chat:2.1 (declared) as default`,
		},
		"replicationcontroller.yaml": {
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"spark.yaml": {
			`0 spec.driver.initContainers[0].image = registry.example.com/models/weights:2 (declared) as spark`,
			`0 spec.executor.image = registry.example.com/models/chat-executor:2.1 (declared) as spark`,
			`0 spec.image = registry.example.com/models/chat-spark:2.1 (declared) as spark`,
			`0 spec.sparkConf["spark.kubernetes.executor.container.image"] = registry.example.com/models/conf:1 (declared) as spark`,
			`1 spec.template.driver.image = registry.example.com/models/driver:1 (declared) as spark`,
			`1 spec.template.image = registry.example.com/models/chat-spark:2.1 (declared) as spark`,
		},
		"statefulset.yaml": {
			`0 spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as llm-server`,
		},
		"tekton.yaml": {
			`0 spec.params[0].default = registry.example.com/models/chat:2.1 (inferred) as default`,
			`0 spec.sidecars[0].image = registry.example.com/models/sidecar:1 (declared) as default`,
			`0 spec.stepTemplate.image = registry.example.com/tools/base:1 (declared) as default`,
			`0 spec.steps[0].image = $(params.image) (unresolved) as default`,
			`0 spec.steps[1].image = registry.example.com/models/chat:2.1 (declared) as default`,
			`0 spec.steps[1].script = registry.example.com/models/chat:2.1 (inferred) as default`,
			`0 spec.steps[1].script = registry.example.com/models/copy:${VERSION} (unresolved) as default`,
			`1 spec.taskSpec.steps[0].image = registry.example.com/models/chat:2.1 (declared) as evaluator`,
			`2 spec.finally[0].taskSpec.steps[0].image = registry.example.com/tools/report:1 (declared) as default`,
			`2 spec.tasks[0].taskSpec.steps[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
			`3 spec.params[0].value = registry.example.com/models/chat:2.1 (inferred) as evaluator`,
			`3 spec.pipelineSpec.tasks[0].taskSpec.steps[0].image = registry.example.com/models/chat:2.1 (declared) as evaluator`,
		},
		"trainjob.yaml": {
			`0 spec.initializer.model.storageUri = registry.example.com/models/chat:2.1 (declared) as default`,
			`0 spec.trainer.args[1] = registry.example.com/models/chat:2.1 (inferred) as default`,
			`0 spec.trainer.image = registry.example.com/trainers/torch:2.9 (declared) as default`,
			`1 spec.template.spec.replicatedJobs[0].template.spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as trainer`,
			`2 spec.template.spec.replicatedJobs[0].template.spec.template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as default`,
		},
		"vllm-production-stack.yaml": {
			`0 spec.deploymentConfig.image = registry.example.com/models/chat:2.1 (declared) as default`,
			`0 spec.deploymentConfig.sidecarConfig.image = docker.io/lmcache/lmstack-sidecar:latest (declared) as default`,
			`0 spec.model.modelURL = registry.example.com/models/weights:2 (inferred) as default`,
			`1 spec.image = docker.io/lmcache/lmstack-router (declared) as vllmrouter-sa`,
		},
		"vllm-values.yaml": {
			`0 cacheserverSpec.image = lmcache/vllm-openai:<CHANGE ME> (unresolved) as default`,
			`0 routerSpec = lmcache/lmstack-router:latest (inferred) as default`,
			`0 servingEngineSpec.modelSpec[0] = registry.example.com/models/chat:2.1 (inferred) as default`,
			`0 servingEngineSpec.modelSpec[0].initContainer.image = busybox:latest (inferred) as default`,
		},
		"volcano.yaml": {
			`0 spec.tasks[0].template.spec.containers[0].image = registry.example.com/models/chat:2.1 (declared) as trainer`,
		},
	}
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		want, ok := tests[file.Name()]
		if !ok {
			t.Errorf("testdata/%s is not expected to hold anything", file.Name())
		}
		t.Run(file.Name(), func(t *testing.T) {
			var got []string
			for i, object := range manifests(t, file.Name()) {
				result := Scan(object, Default())
				for _, f := range result.Found {
					got = append(got, describe(i, f))
				}
				if result.Truncated {
					t.Errorf("object %d was not looked at as a whole", i)
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	if len(tests) != len(files) {
		t.Errorf("%d files are expected, there are %d", len(tests), len(files))
	}
}
