{{- /* Services add up to 8 characters, and may have 63. */}}
{{- define "botfarm.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 55 | trimSuffix "-" }}
{{- end }}

{{- /* Of one component: (dict "root" $ "component" "api"). */}}
{{- define "botfarm.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "botfarm.labels" -}}
{{ include "botfarm.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "botfarm.secretName" -}}
{{- .Values.existingSecret | default (include "botfarm.name" .) }}
{{- end }}

{{- /* The rights of every container. */}}
{{- define "botfarm.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* What every container of the image has: its rights, its environment and its secrets. */}}
{{- define "botfarm.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{ include "botfarm.restricted" . }}
env:
  - {name: BOTFARM_SECRETS_DIR, value: /run/secrets/botfarm}
  {{- range $name, $value := .Values.settings }}
  {{- if not (and (eq $name "BOTFARM_TRUSTED_PROXIES") (eq $value "none")) }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- end }}
volumeMounts:
  - {name: secrets, mountPath: /run/secrets/botfarm, readOnly: true}
{{- end }}

{{- /* Of what the migration needs before anything else is there; it goes once the migration is done. With its weight. */}}
{{- define "botfarm.migrationHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- /* The keys of a Secret that a process gets as files: (dict "secret" NAME "must" (list ...) "may" (list ...)). */}}
{{- define "botfarm.secrets" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .secret }}
          items:
            {{- range .must }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      - secret:
          name: {{ .secret }}
          optional: true
          items:
            {{- range append .may "botfarm_database_ca" }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
{{- end }}

{{- /* Replicas keep apart: (dict "root" $ "component" "api"). */}}
{{- define "botfarm.spread" -}}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "botfarm.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{- /* What every pod has, and where it may run: (dict "root" $ "values" .Values.api). */}}
{{- define "botfarm.pod" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A changed Secret of ours, or changed settings, start new pods. */}}
{{- define "botfarm.podAnnotations" -}}
{{- if not .root.Values.existingSecret }}
checksum/secret: {{ toJson .root.Values.secret | sha256sum }}
{{- end }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* A CronJob's name may have 52 characters, a keeper's own has up to 20. */}}
{{- define "botfarm.keeperName" -}}
{{ include "botfarm.name" .root | trunc 24 | trimSuffix "-" }}-{{ .component }}
{{- end }}

{{- /* The pods of one keeper: (dict "root" $ "component" "keeper-NAME" "values" an entry of keepers). */}}
{{- define "botfarm.keeperPod" -}}
{{- $args := list "chores" "run" "--project" .values.project "--env" .values.env }}
{{- with .values.domain }}{{ $args = concat $args (list "--domain" .) }}{{ end }}
{{- range $key, $value := .values.labels }}{{ $args = concat $args (list "--label" (printf "%s=%s" $key $value)) }}{{ end }}
{{- if not .values.schedule }}{{ $args = append $args "--forever" }}{{ end }}
metadata:
  labels: {{- include "botfarm.labels" . | nindent 4 }}
  {{- with .values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "botfarm.name" .root }}
  {{- include "botfarm.pod" . | trim | nindent 2 }}
  {{- if .values.schedule }}
  restartPolicy: Never  # what failed stays, with its log
  {{- end }}
  # The keeper passes SIGTERM to its command, waits for the end of it, and releases its lease.
  terminationGracePeriodSeconds: 60
  containers:
    - name: keeper
      image: {{ .values.image | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      {{- include "botfarm.restricted" . | nindent 6 }}
      command: [botfarm]
      args: {{ concat $args (list "--") .values.command | toJson }}
      env:
        - {name: BOTFARM_URL, value: "http://{{ include "botfarm.name" .root }}-api:{{ .root.Values.service.port }}"}
        - {name: BOTFARM_TOKEN_FILE, value: /run/secrets/botfarm/botfarm_token}
        - {name: HOME, value: /tmp}
      {{- with .values.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: secrets, mountPath: /run/secrets/botfarm, readOnly: true}
        - {name: tmp, mountPath: /tmp}
      {{- $resources := dict "requests" (dict "cpu" "50m" "memory" "128Mi") "limits" (dict "memory" "512Mi") }}
      resources: {{- .values.resources | default $resources | toYaml | nindent 8 }}
  volumes:
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          - secret:
              name: {{ .values.tokenSecret }}
              items:
                - {key: botfarm_token, path: botfarm_token}
    - name: tmp
      emptyDir: {}
{{- end }}
