package group

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOf(t *testing.T) {
	tests := map[string]struct {
		labels, annotations map[string]string
		want                Group
		grouped             bool
	}{
		"a pod of its own": {labels: map[string]string{"app": "chat"}},
		"a LeaderWorkerSet": {
			map[string]string{lwsName: "chat", lwsIndex: "3"}, map[string]string{lwsSize: "4"}, Group{"lws/chat/3", 4}, true,
		},
		"a LeaderWorkerSet without an index": {labels: map[string]string{lwsName: "chat"}},
		"a JobSet": {
			map[string]string{jobsetName: "tune", jobsetAttempt: "2"}, nil, Group{"jobset/tune/2", 0}, true,
		},
		"a Kueue pod group": {
			map[string]string{kueueName: "g"}, map[string]string{kueueCount: "8"}, Group{"kueue/g", 8}, true,
		},
		"Kueue's goes first": {
			map[string]string{kueueName: "g", lwsName: "chat", lwsIndex: "0"}, map[string]string{kueueCount: "2", lwsSize: "4"},
			Group{"kueue/g", 2}, true,
		},
		"a size that is none":       {map[string]string{kueueName: "g"}, map[string]string{kueueCount: "many"}, Group{"kueue/g", 0}, true},
		"a negative size":           {map[string]string{kueueName: "g"}, map[string]string{kueueCount: "-1"}, Group{"kueue/g", 0}, true},
		"a size beyond any cluster": {map[string]string{kueueName: "g"}, map[string]string{kueueCount: "10001"}, Group{"kueue/g", 0}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: test.labels, Annotations: test.annotations}}
			if got, grouped := Of(pod); got != test.want || grouped != test.grouped {
				t.Errorf("got %+v, %v, want %+v, %v", got, grouped, test.want, test.grouped)
			}
		})
	}
}
