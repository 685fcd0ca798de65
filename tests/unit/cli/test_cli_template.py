"""Go templates: what docker's users write, and Go's complaints."""

from __future__ import annotations

import pytest

from sandbox.cli.template import Template, TemplateError, View

DATA: dict[str, object] = {
    "Name": "/a1",
    "State": {"Running": True, "ExitCode": 3, "Error": "", "Health": None},
    "Args": ["-c", "echo <hi>"],
    "Mounts": [
        {"Type": "volume", "Name": "v"},
        {"Type": "bind", "Name": "w"},
    ],
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}], "9/udp": None},
    "Labels": {"com.x": "y"},
    "Size": 1.5,
}


def render(text: str) -> str:
    return Template(text).render(DATA)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/a1"),
        ("{{.State.ExitCode}} {{.State.Running}} {{.State.Error}}", "3 true "),
        ("{{.State.Health}}", "<no value>"),
        ("{{ .Args }}", "[-c echo <hi>]"),
        ("{{.Ports}}", "map[80/tcp:[map[HostIp:0.0.0.0 HostPort:8081]] 9/udp:<nil>]"),
        ('{{(index .Ports "80/tcp") }}', "[map[HostIp:0.0.0.0 HostPort:8081]]"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8081"),
        ('{{index .Labels "com.x"}}{{index .Labels "no"}}', "y<no value>"),
        ("{{range .Mounts}}{{.Type}}:{{.Name}};{{end}}", "volume:v;bind:w;"),
        ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Name}} {{end}}", "0=v 1=w "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", "com.x=y"),
        ("{{range .Labels}}{{$.Name}}{{end}}", "/a1"),
        ("{{range .State.Health}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}a{{else if .Args}}b{{else}}c{{end}}", "b"),
        ("{{if not .State.Running}}a{{end}}", ""),
        ("{{with .State}}{{.ExitCode}}{{end}}", "3"),
        ("{{json .Args}}", '["-c","echo <hi>"]'),
        ("{{json .State}}", '{"Running":true,"ExitCode":3,"Error":"","Health":null}'),
        ('{{join .Args " "}}', "-c echo <hi>"),
        ('{{.Name | upper | printf "%s!"}}', "/A1!"),
        ('{{lower "AB"}}{{title "ab cd"}}', "abAb Cd"),
        ('{{split "a,b" ","}}', "[a b]"),
        ("{{len .Args}} {{len .Name}}", "2 3"),
        ("{{slice .Name 1}} {{slice .Name 1 2}}", "a1 a"),
        (
            '{{printf "%5d|%-4s|%q|%v|%.2f|%x" 42 "ab" "x" true .Size 255}}',
            '   42|ab  |"x"|true|1.50|ff',
        ),
        ('{{println "a" 1}}', "a 1\n"),
        ('{{pad "x" 1 2}}|', " x  |"),
        ('{{truncate "abcdef" 3}}', "abc"),
        (
            '{{eq .Name "/a1"}} {{ne 1 2}} {{gt 3 2}} {{and 1 0}} {{or "" "x"}}',
            "true true true 0 x",
        ),
        ("a {{- .Name -}} b", "a/a1b"),
        ("a{{/* no */}}b", "ab"),
        ("{{`raw`}}", "raw"),
        ("{{$x := .Name}}{{$x}}", "/a1"),
        ('{{with $y := "z"}}{{$y}}{{end}}', "z"),
        ("{{.Size}}", "1.5"),
    ],
)
def test_templates_render_as_with_go(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{", "template: :1: unclosed action"),
        ("{{.Name", "template: :1: unclosed action"),
        ("a\n{{.Name", "template: :2: unclosed action"),
        ("{{nosuch .Name}}", 'template: :1: function "nosuch" not defined'),
        ("{{if .Name}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{}}", "template: :1: missing value for command"),
        ('{{"a}}', "template: :1: unterminated quoted string"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
    ],
)
def test_what_is_no_template_is_said_in_gos_words(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text)

    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "{{.Nope}}",
            'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"',
        ),
        (
            "{{.State.Nope}}",
            'template: :1:2: executing "" at <.State.Nope>: map has no entry for key "Nope"',
        ),
        (
            "{{.Name.Nope}}",
            'template: :1:2: executing "" at <.Name.Nope>: '
            "can't evaluate field Nope in type string",
        ),
        (
            "x{{index .Args 7}}",
            'template: :1:3: executing "" at <index .Args 7>: '
            "error calling index: index out of range: 7",
        ),
    ],
)
def test_what_does_not_fit_the_data_is_said_in_gos_words(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text)

    assert str(caught.value) == complaint


class Row(View):
    type_name = "*formatter.ContainerContext"
    names = ("ID", "Ports")

    def field(self, name: str) -> object:
        if name == "Label":
            return lambda key: f"<{key}>"
        return {"ID": "1", "Ports": "80->80"}[name]


def test_a_view_has_fields_and_methods() -> None:
    assert Template('{{.ID}}{{.Label "x"}}').render(Row()) == "1<x>"


def test_json_of_a_view_is_sorted_and_escaped() -> None:
    assert Template("{{json .}}").render(Row()) == '{"ID":"1","Ports":"80-\\u003e80"}'


def test_json_of_a_string_is_not_escaped() -> None:
    assert Template("{{json .Ports}}").render(Row()) == '"80->80"'


def test_an_unknown_field_of_a_view_names_dockers_type() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{{.Nope}}").render(Row())

    assert str(caught.value) == (
        'template: :1:2: executing "" at <.Nope>: '
        "can't evaluate field Nope in type *formatter.ContainerContext"
    )


def test_the_fields_of_a_template_are_known_without_rendering() -> None:
    assert Template("{{.ID}} {{if .Size}}{{json .}}{{end}}").fields() == {"ID", "Size", "."}
